//! `cargo xtask test`: every test of the project, with what the tests need.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::wasm_toolchain::WasmToolchain;
use crate::workspace::Workspace;
use crate::{build, console, nvrtc, process, promtool, python, sdks, setup};

/// Prepares the guests, the model, the texts, Python and promtool, builds the host, runs all tests, and says how long
/// each step took.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut times = Times::default();
    times.measure("setup", || setup::run(workspace))?;
    console::step("test: Python environment and promtool");
    let python = times.measure("Python environment", || python::environment(workspace))?;
    let promtool = times.measure("promtool", || promtool::find(workspace))?;
    let componentizers = times.measure("componentizers", || Ok(sdks::tools(workspace)))?;
    let wasm = WasmToolchain::prepare(workspace)?;
    times.measure("build of the host", || build::espalier(workspace))?;
    console::step("test: formulas of the guests");
    times.measure("formulas of the guests", || {
        let mut cargo = Command::new("cargo");
        cargo.args([
            "test",
            "--release",
            "--locked",
            "--package",
            "espalier-text-metrics",
            "--manifest-path",
        ]);
        process::run(
            "pass the tests of the guests' formulas",
            cargo.arg(workspace.guests().join("Cargo.toml")),
        )
    })?;
    let test_the_host = |arguments: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo
            .args(["test", "--release", "--locked", "--workspace", "--no-fail-fast"])
            .args(arguments)
            .current_dir(workspace.root());
        // The end-to-end tests leave out what needs these when `cargo test` is run by hand.
        cargo.env("ESPALIER_TEST_PYTHON", &python).env("ESPALIER_TEST_PROMTOOL", &promtool);
        cargo.envs(componentizers.iter().map(|(variable, tool)| (*variable, tool)));
        cargo.env("ESPALIER_TEST_GUEST_RUSTC", wasm.rustc());
        cargo
            .env("ESPALIER_CACHE", workspace.cache())
            .env("ESPALIER_COMPONENTS_DIR", workspace.built_guests());
        process::run("pass the tests", &mut cargo)
    };
    console::step("test: cargo test");
    times.measure("cargo test", || test_the_host(&[]))?;
    test_the_simulated_device(workspace, &python, &mut times)?;
    // They measure the memory of their whole process, so nothing else may run in it.
    console::step("test: those that run alone");
    times.measure("tests that run alone", || test_the_host(&["--test", "it", "--", "--ignored"]))?;
    times.show();
    Ok(())
}

/// The kernels of CUDA devices, on a simulated one: what NVIDIA's compiler makes of them, run with bounds, races and masks
/// checked. Where the compiler can't be fetched this is said and left out.
fn test_the_simulated_device(workspace: &Workspace, python: &Path, times: &mut Times) -> Result<()> {
    console::step("test: CUDA kernels on the simulated device");
    let compiler = match nvrtc::libraries(workspace, python) {
        Ok(compiler) => compiler,
        Err(error) => {
            console::note(&format!("LEFT OUT, the kernels are not tested: {error:#}"));
            return Ok(());
        }
    };
    let driver = nvrtc::simulated_driver(workspace)?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--release", "--locked", "--workspace", "--test", "it", "--", "cuda::"])
        .current_dir(workspace.root())
        .env("LD_LIBRARY_PATH", std::env::join_paths([driver, compiler])?)
        .env("ESPALIER_TEST_CUDA", "simulated")
        .env("ESPALIER_CUDA_CODE", "ptx")
        .env("ESPALIER_CUDA_CACHE", workspace.cache().join("cuda"));
    times.measure("simulated device", || process::run("pass the tests of CUDA kernels", &mut cargo))
}

/// How long each step took.
#[derive(Default)]
struct Times {
    steps: Vec<(&'static str, Duration)>,
}

impl Times {
    fn measure<T>(&mut self, name: &'static str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let result = step();
        self.steps.push((name, began.elapsed()));
        result
    }

    fn show(&self) {
        console::step("test: all passed");
        for (name, time) in &self.steps {
            console::note(&format!("{name:<20} {:>8}", console::elapsed(*time)));
        }
    }
}
