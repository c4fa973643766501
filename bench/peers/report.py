"""Reports: JSON with every single run, and Markdown made from it."""

import json
import pathlib

import gpt_oss
import llama_cpp
import machine
import pairs
import serving
import throughput

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "reports"
FILES = {
    "llama-cpp": "Espalier and llama.cpp: SmolLM2-135M-Instruct",
    "gpt-oss-20b-llama-cpp": "Espalier and llama.cpp: the shape of GPT-OSS 20B",
    "serve": "Espalier and llama-server over HTTP",
}


def renew(arguments, name, key, section):
    """Puts a section into its report; what another machine, peer or thread count has measured goes."""
    about = {"host": machine.facts(), "peer": llama_cpp.version(arguments.cache), "threads": arguments.threads}
    file = FOLDER / f"{name}.json"
    report = json.loads(file.read_text()) if file.exists() else {}
    if {field: report.get(field) for field in about} != about or "sections" not in report:
        report = {**about, "sections": {}}
    report["sections"][key] = section
    file.write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(name, report)
    file.with_suffix(".md").write_text(text)
    return text


def markdown(name, report):
    info, sections = report["host"], dict(report["sections"])
    sets = ", ".join(info.get("instruction_sets", []))
    lines = [
        f"# {FILES[name]}",
        "",
        f"Made by `cargo xtask bench peers` on {info.get('processor', info['machine'])}, {info['cores']} cores ({sets}),"
        f" {info.get('memory_gib', '?')} GiB, {info['system']}. {report['threads']} threads for either program; keys and values are cached as"
        f" f16 by both. Peer: {report['peer']}. Ratios above one mean that Espalier is better.",
    ]
    if name == "serve":
        lines += serving.markdown(sections["serve"])
    elif name == "gpt-oss-20b-llama-cpp":
        lines += gpt_oss.markdown(sections["gpt-oss-20b"])
    else:
        foreign = sections.pop("foreign", None)
        lines += throughput.markdown({kind: sections[kind] for kind in throughput.FORMATS if kind in sections})
        lines += throughput.markdown_with_foreign_load(foreign) if foreign else []
    return "\n".join(lines) + "\n"
