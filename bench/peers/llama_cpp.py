"""llama.cpp: where it comes from, how it is built, its programs, and models in the formats that it makes."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile

import machine

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
TARGETS = ["llama-bench", "llama-batched-bench", "llama-perplexity", "llama-quantize", "llama-completion", "llama-server"]
OPTIONS = ["CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=ON"] + [
    f"LLAMA_{part}=OFF" for part in ("CURL", "OPENSSL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_WEBUI")
]
WITHOUT_AMX = "-U__AMX_INT8__"  # ggml compiles that path where the compiler defines this macro


def source(cache):
    return cache / "peers" / f"llama_cpp_python-{VERSION}" / "vendor" / "llama.cpp"


def program(cache, name):
    """The path of a program; the whole program stops where it is not built."""
    path = source(cache) / "build" / "bin" / name
    if not path.exists():
        sys.exit(f"there is no {path}: run `bench/peers build` first")
    return path


def build(cache, without_amx):
    """Fetches and builds; nothing is done twice."""
    peers = cache / "peers"
    peers.mkdir(parents=True, exist_ok=True)
    archive = peers / f"llama_cpp_python-{VERSION}.tar.gz"
    if not archive.exists():
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE, "--dest", str(peers)]
        subprocess.run([*pip, f"{PACKAGE}=={VERSION}"], check=True)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        archive.unlink()
        sys.exit(f"{archive.name} has SHA-256 {found}, expected {SHA256}; it was removed, run again to fetch it anew")
    tree = source(cache)
    if not tree.exists():
        with tarfile.open(archive) as tar:
            tar.extractall(peers, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    options = OPTIONS
    if without_amx or _amx_crashes():
        options = [*options, f"CMAKE_C_FLAGS={WITHOUT_AMX}", f"CMAKE_CXX_FLAGS={WITHOUT_AMX}"]
    environment = _with_cmake(peers)
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=environment["PATH"]) else []
    configure = ["cmake", "-S", str(tree), "-B", str(tree / "build"), *generator, *(f"-D{option}" for option in options)]
    subprocess.run(configure, check=True, env=environment)
    compile_all = ["cmake", "--build", str(tree / "build"), "--parallel", str(os.cpu_count()), "--target", *TARGETS]
    subprocess.run(compile_all, check=True, env=environment)
    print(tree / "build" / "bin")


def _amx_crashes():
    """Whether this is the pair for which llama.cpp's AMX prefill was seen to crash: a processor with AMX, and GCC 12."""
    if "amx_int8" not in machine.processor_flags():
        return False
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True).stdout.split("\n", 1)[0]
    return bool(re.search(r"\b(cc|gcc)\b.* 12\.\d+\.\d+", compiler))


def _with_cmake(peers):
    """An environment that has CMake: the system's, or one from PyPI in a folder of its own."""
    environment = dict(os.environ)
    if not shutil.which("cmake"):
        tools = peers / "tools"
        if not (tools / "bin" / "cmake").exists():
            subprocess.run([sys.executable, "-m", "venv", str(tools)], check=True)
            subprocess.run([str(tools / "bin" / "python"), "-m", "pip", "install", "--quiet", "cmake", "ninja"], check=True)
        environment["PATH"] = f"{tools / 'bin'}{os.pathsep}{environment['PATH']}"
    return environment


def version(cache):
    """What a report says of the peer."""
    name = f"llama.cpp as vendored in {PACKAGE} {VERSION}"
    settings = (source(cache) / "build" / "CMakeCache.txt").read_text()
    without = WITHOUT_AMX in settings or {"GGML_NATIVE:BOOL=OFF", "GGML_AMX_INT8:BOOL=OFF"} <= set(settings.split("\n"))
    return f"{name}, built without AMX" if without else name


def quantized(cache, model, kind, out):
    """`model` in another format of llama.cpp's, written to `out` unless it is there."""
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_suffix(".partial")
        subprocess.run([program(cache, "llama-quantize"), "--allow-requantize", model, partial, kind], check=True, capture_output=True)
        partial.rename(out)
    return out
