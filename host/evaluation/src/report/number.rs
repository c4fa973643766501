//! Figures as people read them.

/// A count with its decimal unit: `134.5 M`.
pub(super) fn count(value: u64) -> String {
    scaled(value, &["", " k", " M", " G", " T"])
}

/// A size with its decimal unit: `269.0 MB`.
pub(super) fn bytes(value: u64) -> String {
    scaled(value, &[" B", " kB", " MB", " GB", " TB"])
}

fn scaled(value: u64, units: &[&str]) -> String {
    let mut scaled = value as f64;
    let mut unit = units.first().copied().unwrap_or_default();
    for &larger in units.iter().skip(1) {
        // What would be shown as 1000.0 moves on to the next unit.
        if scaled < 999.95 {
            break;
        }
        scaled /= 1000.0;
        unit = larger;
    }
    if value < 1000 { format!("{value}{unit}") } else { format!("{scaled:.1}{unit}") }
}

/// A figure with four significant digits, never in exponent form between 0.0001 and 10 million.
pub(super) fn figure(value: f64) -> String {
    significant(value, 4)
}

/// A standard error with two significant digits.
pub(super) fn error(value: f64) -> String {
    significant(value, 2)
}

fn significant(value: f64, digits: u8) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let magnitude = value.abs().log10().floor();
    let behind = f64::from(digits) - 1.0;
    if !(-4.0..7.0).contains(&magnitude) {
        return format!("{value:.0$e}", behind as usize);
    }
    let decimals = (behind - magnitude).clamp(0.0, behind + 4.0) as usize;
    format!("{value:.decimals$}")
}

/// A change in per cent with its sign: `+5.6 %`; none when the base is zero.
pub(super) fn change(value: f64, base: f64) -> Option<String> {
    let change = (value / base - 1.0) * 100.0;
    change.is_finite().then(|| format!("{change:+.1} %"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_move_to_the_next_unit_in_time() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1.0 k");
        assert_eq!(count(999_949), "999.9 k");
        assert_eq!(count(999_950), "1.0 M");
        assert_eq!(bytes(134_515_008), "134.5 MB");
        assert_eq!(bytes(12), "12 B");
    }

    #[test]
    fn figures_keep_four_digits() {
        assert_eq!(figure(18.246), "18.25");
        assert_eq!(figure(0.012_345), "0.01235");
        assert_eq!(figure(12345.6), "12346");
        assert_eq!(figure(0.0), "0");
        assert_eq!(figure(1.5e9), "1.500e9");
        assert_eq!(error(0.2541), "0.25");
        assert_eq!(error(0.000_21), "0.00021");
    }

    #[test]
    fn changes_carry_their_sign() {
        assert_eq!(change(1.056, 1.0).as_deref(), Some("+5.6 %"));
        assert_eq!(change(0.75, 1.0).as_deref(), Some("-25.0 %"));
        assert_eq!(change(1.0, 0.0), None);
    }
}
