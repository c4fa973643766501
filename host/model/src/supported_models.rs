//! The page `docs/models.md`, rendered from what the readers and writers accept.
//!
//! The test fails when the page and the program differ; `ESPALIER_UPDATE_DOCS=1 cargo test -p espalier-model` rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use espalier_kernels::WeightFormat;

use crate::export::WRITTEN;
use crate::gguf::tensor_type_number;
use crate::hugging_face::dtype_of;
use crate::spec::Architecture;
use crate::tokenizer::pre_tokenizer;

const HEAD: &str = "# Supported models

What loads, runs and can be written. Everything else is refused with an error that names it.

## Architectures
";

const CONTAINERS: &str = "
## Containers

| container | read | written by `export`, `quantize` and `prune` |
| --- | --- | --- |
| HF directory: `config.json`, `*.safetensors` with or without an index, tokenizer files | yes | yes (`prune` writes this one only) |
| OpenAI's `original` directory of gpt-oss | yes | no |
| GGUF, versions 2 and 3, little-endian, one file | yes | yes |

A path is a directory or a file; which container it is, is found out from what is there. gpt-oss directories without a
`tokenizer.json` get the o200k_harmony vocabulary that the program carries. Tensors that the configuration doesn't ask
for are refused, and so are configurations of GPTQ, AWQ, FP8 and other quantisations.

## Weight formats
";

const CHAT_FORMATS: &str = r"
## Chat formats

| family | a conversation is written | thoughts | tool calls | `reasoning_effort` |
| --- | --- | --- | --- | --- |
| gpt-oss | in Harmony, whatever template the checkpoint has | channel `analysis` | channel `commentary`; one function can be forced | low, medium, high |
| others | by the checkpoint's Jinja template | between `<think>` and `</think>`, if the template or the vocabulary has them | `<tool_call>` with JSON, if the template takes `tools` and writes that form | if the template reads it |

A gpt-oss whose vocabulary lacks Harmony's tokens is written by its template like the others.
";

const LIMITS: &str = "
## Rotary embeddings

`default`, `linear`, `llama3` and `yarn` (with `truncate` either way), as `rope_scaling` beside `rope_theta` or as
`rope_parameters`. GGUF's `rope_freqs.weight` becomes `llama3` where its values are that formula's. A GGUF file of gpt-oss
has a ramp that isn't rounded, unless its key `gpt-oss.rope.scaling.yarn_truncate`, which this program writes, says so.

## Limits of other programs

Copies are written for transformers and llama.cpp; what these can't load is refused, or stays with this program.

| what | transformers | llama.cpp | Espalier |
| --- | --- | --- | --- |
| experts per layer | one number | one number | one for each layer, in HF directories |
| heads, key/value heads, channels per layer | one number each | one each for gpt-oss, one for each layer for Llama | one for each layer, in HF directories and for dense models in GGUF |
| heads x head dimension other than the hidden size | Llama: heads divide the hidden size; Qwen2, gpt-oss: any | Llama, gpt-oss: any; Qwen2: no | any |
| columns of a matrix in MXFP4 or Q8_0 | a multiple of 32 | a multiple of 32 | a multiple of 32 |
| gpt-oss's windows | `layer_types`, any order | every other layer from the first on; newer builds read a list | any order |
| gpt-oss's `truncate: false` | yes | no, it rounds YaRN's ramp outward | yes |
| gpt-oss's `swiglu_limit`, `swiglu_alpha` | any | 7 and 1.702 | any; GGUF files have 7 and 1.702 only |
";

fn render() -> String {
    let mut page = String::from(HEAD);
    page.push_str("\n| architecture | `config.json` | GGUF | for example | what it has |\n| --- | --- | --- | --- | --- |\n");
    for architecture in Architecture::ALL {
        let (example, features) = match architecture {
            Architecture::Llama => (
                "Llama 1 to 3.3, SmolLM2, models built like them",
                "grouped-query attention, biases where `attention_bias` says so, a tied or untied head",
            ),
            Architecture::Qwen2 => (
                "Qwen 2 and 2.5, DeepSeek-R1-Distill-Qwen",
                "biases on q, k and v, sliding windows where `use_sliding_window` says so",
            ),
            Architecture::GptOss => (
                "gpt-oss-20b, gpt-oss-120b",
                "mixture of experts with biases and a clamped SwiGLU, attention sinks, a window on every other layer, YaRN",
            ),
        };
        writeln!(
            page,
            "| {} | `{}`, `{}` | `{}` | {example} | {features} |",
            architecture.model_type(),
            architecture.class_name(),
            architecture.model_type(),
            architecture.gguf_name()
        )
        .unwrap();
    }
    page.push_str(CONTAINERS);
    page.push_str("\n| format | bits per weight | HF directory | GGUF | can be written from other formats |\n| --- | --- | --- | --- | --- |\n");
    for format in WeightFormat::ALL {
        let bits = 8.0 * format.block_bytes() as f64 / format.block_values() as f64;
        let hf = match format {
            WeightFormat::Mxfp4 => "gpt-oss's experts",
            _ if dtype_of(format).is_some() => "yes",
            _ => "no",
        };
        let yes = |condition: bool| if condition { "yes" } else { "no" };
        let (gguf, written) = (yes(tensor_type_number(format).is_some()), yes(WRITTEN.contains(&format)));
        writeln!(page, "| {format} | {bits} | {hf} | {gguf} | {written} |").unwrap();
    }
    page.push_str("\nNorms, biases, sinks and routers of a GGUF file are f32.\n\n## Tokenizers\n\n");
    writeln!(
        page,
        "Byte-level BPE: every `tokenizer.json` of that kind; in GGUF the model `gpt2` with one of the pre-tokenizers\n{}.\n\
         gpt-oss's own, o200k_harmony, is built in. Tokenizer and template come along into a copy.",
        pre_tokenizer::NAMES
    )
    .unwrap();
    page.push_str(CHAT_FORMATS);
    page.push_str(LIMITS);
    page
}

#[test]
fn the_committed_page_is_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/models.md");
    let rendered = render();
    if std::env::var_os("ESPALIER_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &rendered).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == rendered,
        "docs/models.md differs: run ESPALIER_UPDATE_DOCS=1 cargo test -p espalier-model"
    );
}
