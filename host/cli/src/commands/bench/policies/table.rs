//! What the bench prints: a table for each budget, or JSON.

use std::io::{Write, stdout};

use anyhow::Result;

use super::{Args, Budget, Row};

/// Prints what was found; `whole` is the loss of the whole model.
pub(super) fn print(args: &Args, whole: f64, budgets: &[Budget]) -> Result<()> {
    let mut out = stdout().lock();
    if args.json {
        let found = serde_json::json!({
            "bench": "policies", "unit": args.unit, "protected": args.protect, "loss": whole, "budgets": budgets,
        });
        writeln!(out, "{found}")?;
        return Ok(());
    }
    for budget in budgets {
        let (share, unit, perplexity) = (budget.removed * 100.0, args.unit, whole.exp());
        writeln!(out, "{share:.0} % of the units \"{unit}\" gone; perplexity before {perplexity:.3}\n")?;
        writeln!(
            out,
            "| policy | perplexity | more | by seed | Spearman |\n| --- | ---: | ---: | ---: | ---: |"
        )?;
        for row in &budget.policies {
            writeln!(out, "{}", line(whole, row))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn line(whole: f64, row: &Row) -> String {
    let perplexity = whole.exp() * (1.0 + row.perplexity_growth);
    let agreement = row.agreement.map_or_else(|| "-".to_owned(), |found| format!("{found:.2}"));
    let more = row.perplexity_growth * 100.0;
    let percent = |loss: &f64| format!("{:+.1}", (loss - whole).exp_m1() * 100.0);
    let by_seed: Vec<String> = row.losses.iter().map(percent).collect();
    let by_seed = by_seed.join(" ");
    format!("| {} | {perplexity:.3} | {more:+.1} % | {by_seed} | {agreement} |", row.policy)
}
