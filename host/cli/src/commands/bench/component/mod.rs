//! Components: what a call of one costs, alone and in a request, how soon one is there, and how an endpoint compares with
//! `wasmtime serve`.
//!
//! Calls are timed one by one, and medians are reported beside the limits that the project sets itself. What a router adds to
//! a request is a difference: the same request with the variant named and with the variant left to the router, in turn, at a
//! server of its own process. The endpoint and its peer serve the same file under the same load, in turn.

mod bare;
mod connection;
mod deploying;
mod peer;
mod report;
mod requests;
mod server;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use espalier_components::{
    Configuration, Host, HostConfig, RequestRouter, RouteRequest, VariantStatus, World, find_component,
    read_component,
};

use self::report::Report;
use super::measure::{Percentiles, time_each};

/// Options of `bench component`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The router: a file or the name of a built-in one that needs no settings.
    #[arg(long, default_value = "least-busy", value_name = "NAME")]
    router: String,
    /// The endpoint whose cost is the host's.
    #[arg(long, default_value = "no-op", value_name = "NAME")]
    endpoint: String,
    /// What is deployed.
    #[arg(long, default_value = "compare", value_name = "NAME")]
    deployed: String,
    /// The program `wasmtime`, for the comparison with `wasmtime serve`; without it that is left out.
    #[arg(long, value_name = "FILE")]
    wasmtime: Option<PathBuf>,
    /// Calls, instances and pairs of requests that are timed, each.
    #[arg(long, default_value_t = 3000, value_name = "N")]
    calls: usize,
    /// Deployments that are timed, each on a state directory of its own.
    #[arg(long, default_value_t = 9, value_name = "N")]
    deployments: usize,
    /// Clients of the endpoint at once.
    #[arg(long, default_value_t = 8, value_name = "N")]
    clients: usize,
    /// Seconds that they send requests, in each round.
    #[arg(long, default_value_t = 3, value_name = "S")]
    seconds: u64,
    /// Rounds; the endpoint's and its peer's alternate.
    #[arg(long, default_value_t = 7, value_name = "N")]
    rounds: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `bench component`.
pub(crate) fn run(args: &Args) -> Result<()> {
    for (option, value) in [
        ("--calls", args.calls),
        ("--deployments", args.deployments),
        ("--clients", args.clients),
        ("--rounds", args.rounds),
    ] {
        ensure!(value > 0, "{option} is 0, expected at least 1");
    }
    let bytes = |name: &str| -> Result<Vec<u8>> { Ok(read_component(&find_component(name)?)?) };
    let (router, endpoint, deployed) = (bytes(&args.router)?, bytes(&args.endpoint)?, bytes(&args.deployed)?);

    let host = Host::new(HostConfig::default())?;
    let component = host.load(&args.router, &router, Some(World::RequestRouter))?;
    let instantiate = time_each(args.calls, || Ok(component.instantiate()?))?;
    let in_sandbox = RequestRouter::new(component, &Configuration::default())?;
    let (request, variants) = (request(), [variant("a"), variant("b")]);
    let sandboxed = time_each(args.calls, || {
        in_sandbox.route(&request, &variants)?;
        Ok(())
    })?;
    let bare = bare::time_calls(&router, args.calls).context("the bare call of the router failed")?;
    let endpoint_component = host.load(&args.endpoint, &endpoint, Some(World::HttpEndpoint))?;
    let endpoint_instance = time_each(args.calls, || Ok(endpoint_component.instantiate()?))?;
    let deployment = deploying::measure(&args.deployed, &deployed, args.deployments)?;

    let server = server::Server::start(&args.router, &args.endpoint)?;
    let in_request = requests::measure(&server, args.calls)?;
    let load = peer::Load { clients: args.clients, seconds: args.seconds, rounds: args.rounds };
    let http = peer::measure(&server, &args.endpoint, args.wasmtime.as_deref(), &load)?;
    Report {
        router: args.router.clone(),
        endpoint: args.endpoint.clone(),
        deployed: args.deployed.clone(),
        deployed_bytes: deployed.len(),
        in_request,
        sandboxed: Percentiles::of(sandboxed),
        bare: Percentiles::of(bare),
        instantiate: Percentiles::of(instantiate),
        endpoint_instance: Percentiles::of(endpoint_instance),
        deployment,
        http,
    }
    .print(args.json)
}

fn request() -> RouteRequest {
    RouteRequest {
        model: "tiny".to_owned(),
        prompt_tokens: 100,
        max_tokens: 16,
        streaming: false,
        session: None,
        quality: None,
        draw: 7,
    }
}

fn variant(name: &str) -> VariantStatus {
    VariantStatus { name: name.to_owned(), accepts: true, ..VariantStatus::default() }
}
