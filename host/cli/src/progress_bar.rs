//! Progress on a terminal; silence where standard error is not one.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

/// A line that shows one thing at a time.
pub(crate) struct Bar {
    bar: ProgressBar,
    label: String,
}

impl Bar {
    /// A bar that is invisible until something is shown, and always where nobody watches.
    pub(crate) fn new() -> Self {
        Self { bar: ProgressBar::hidden(), label: String::new() }
    }

    /// Shows `done` of `total` steps of `label`; the total may be unknown.
    pub(crate) fn show(&mut self, label: &str, done: u64, total: Option<u64>) {
        if !stderr().is_terminal() {
            return;
        }
        if self.label != label {
            self.bar.finish_and_clear();
            self.bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            self.bar.set_style(style(total.is_some()));
            self.bar.set_message(label.to_owned());
            label.clone_into(&mut self.label);
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    /// Shows the bar with this text behind it, which may change with every step.
    pub(crate) fn show_with(&mut self, label: &str, done: u64, total: u64, text: &str) {
        self.show(label, done, Some(total));
        self.bar.set_prefix(text.to_owned());
    }

    /// Clears the line.
    pub(crate) fn clear(&mut self) {
        self.bar.finish_and_clear();
        self.label.clear();
    }
}

fn style(known_total: bool) -> ProgressStyle {
    let template = if known_total {
        "{msg:<24} {wide_bar} {prefix} {pos}/{len} {eta:>5}"
    } else {
        "{msg:<24} {spinner} {human_pos} tokens, {elapsed}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
