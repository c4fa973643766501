//! Speed of the model in what it writes: the answers to the samples, or, for data that is plain text, continuations of
//! pieces of it.
//!
//! The host measures by its own clock. With b the moment at which an answer was asked for, f the time from then to its first
//! token, t the time to its end and n its tokens:
//!
//! * `speed.latency-p50-ms`, `speed.latency-p99-ms`: quantiles of t over the answers, interpolated linearly between two of
//!   them (NumPy's `quantile`).
//! * `speed.first-token-p50-ms`, `speed.first-token-p99-ms`: the same of f.
//! * `speed.ms-per-token`: (t − f) / (n − 1), the mean over the answers of at least two tokens with its standard error.
//! * `speed.tokens-per-second`: Σ n / (max (b + t) − min b), all answers together.
//!
//! Answers are generated together, by the exact path, and share the machine: latencies have the waiting for others in them,
//! as under load. The speed of one sequence on the serving path is what `--timing` measures. Answers that the data gives
//! took no time; where it gives all of them there are no figures.

use espalier_evaluation_metric::inference::{Session, Step, Timing};
use espalier_evaluation_metric::{Measurement, begin_continuations, metric, report, samples, telemetry};

fn evaluate() -> Result<Vec<Measurement>, String> {
    let timings: Vec<Timing> = match samples::count() {
        0 => begin_continuations()?.iter().filter_map(timing).collect(),
        count => {
            let found = (0..count).map(samples::answer_timing).collect::<Result<Vec<_>, _>>()?;
            found.into_iter().flatten().collect()
        }
    };
    if timings.is_empty() {
        telemetry::log(telemetry::Level::Info, "the data gives every answer, so none was generated");
        return Ok(Vec::new());
    }
    let tokens: u64 = timings.iter().map(|timing| u64::from(timing.tokens)).sum();
    report::note(&format!("{} answers of {tokens} tokens in all, generated together", timings.len()));
    let quantiles = |name: &str, of: fn(&Timing) -> f64| {
        let mut values: Vec<f64> = timings.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        [50, 99].map(|percent| {
            let name = format!("speed.{name}-p{percent}-ms");
            quantile(&values, f64::from(percent) / 100.0).map(|value| Measurement::new(&name, value))
        })
    };
    let latencies = quantiles("latency", |timing| timing.milliseconds);
    let first_tokens = quantiles("first-token", |timing| timing.first_token_milliseconds);
    let per_token = Measurement::mean("speed.ms-per-token", timings.iter().filter_map(per_token));
    let throughput = throughput(&timings, tokens);
    Ok(latencies.into_iter().chain(first_tokens).chain([per_token, throughput]).flatten().collect())
}

/// How long a continuation takes, which is read to its end.
fn timing(session: &Session) -> Option<Timing> {
    while let Step::Piece(_) = session.next() {}
    session.timing()
}

/// The value below which this share of sorted values lies.
fn quantile(sorted: &[f64], level: f64) -> Option<f64> {
    let place = level * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

fn per_token(timing: &Timing) -> Option<f64> {
    let gaps = timing.tokens.checked_sub(1).filter(|gaps| *gaps > 0)?;
    Some((timing.milliseconds - timing.first_token_milliseconds) / f64::from(gaps))
}

fn throughput(timings: &[Timing], tokens: u64) -> Option<Measurement> {
    let begun = timings.iter().map(|timing| timing.begun_milliseconds).fold(f64::INFINITY, f64::min);
    let ends = timings.iter().map(|timing| timing.begun_milliseconds + timing.milliseconds);
    let seconds = (ends.fold(f64::NEG_INFINITY, f64::max) - begun) / 1_000.0;
    (seconds > 0.0).then(|| Measurement::new("speed.tokens-per-second", tokens as f64 / seconds))
}

metric!(evaluate);
