//! Today's date, for conversations that state it.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// HF's `strftime_now(format)`, in UTC.
pub(super) fn strftime_now(format: String) -> Result<String, Error> {
    strftime(&format, now())
}

/// Today in UTC, `YYYY-MM-DD`.
pub(super) fn today() -> String {
    let date = Date::new(now());
    format!("{}-{:02}-{:02}", date.year, date.month, date.day)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Python's `strftime` for the directives that have no locale or time zone in them.
fn strftime(format: &str, unix_seconds: u64) -> Result<String, Error> {
    let date = Date::new(unix_seconds);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        match characters.next() {
            // glibc's `%-d`: no leading zero.
            Some('-') => match characters.next() {
                Some(directive) => {
                    let padded = date.directive(directive).ok_or_else(|| unknown(format, directive))?;
                    let bare = padded.trim_start_matches('0');
                    text.push_str(if bare.is_empty() { "0" } else { bare });
                }
                None => text.push_str("%-"),
            },
            Some(directive) => {
                text.push_str(&date.directive(directive).ok_or_else(|| unknown(format, directive))?)
            }
            None => text.push('%'),
        }
    }
    Ok(text)
}

fn unknown(format: &str, directive: char) -> Error {
    let message = format!("strftime_now({format:?}): directive %{directive} is not supported");
    Error::new(ErrorKind::InvalidOperation, message)
}

struct Date {
    year: u64,
    month: u64,
    day: u64,
    day_of_year: u64,
    weekday: u64,
    second_of_day: u64,
}

impl Date {
    /// The proleptic Gregorian date, by Howard Hinnant's `civil_from_days`.
    fn new(unix_seconds: u64) -> Self {
        let days = unix_seconds / 86_400;
        // Years begin in March here, so that the leap day comes last.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let march_day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * march_day + 2) / 153;
        let day = march_day - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let before_march = if leap { 60 } else { 59 };
        let day_of_year = if month > 2 { march_day + before_march + 1 } else { march_day - 306 + 1 };
        // 1 January 1970 was a Thursday.
        Self { year, month, day, day_of_year, weekday: (days + 3) % 7, second_of_day: unix_seconds % 86_400 }
    }

    fn directive(&self, directive: char) -> Option<String> {
        let hour = self.second_of_day / 3_600;
        let minute = self.second_of_day / 60 % 60;
        let second = self.second_of_day % 60;
        let month = MONTHS.get(self.month as usize - 1)?;
        let weekday = DAYS.get(self.weekday as usize)?;
        Some(match directive {
            'Y' => self.year.to_string(),
            'y' => format!("{:02}", self.year % 100),
            'm' => format!("{:02}", self.month),
            'B' => (*month).to_owned(),
            'b' | 'h' => month.get(..3)?.to_owned(),
            'd' => format!("{:02}", self.day),
            'e' => format!("{:2}", self.day),
            'j' => format!("{:03}", self.day_of_year),
            'A' => (*weekday).to_owned(),
            'a' => weekday.get(..3)?.to_owned(),
            'H' => format!("{hour:02}"),
            'I' => format!("{:02}", (hour + 11) % 12 + 1),
            'M' => format!("{minute:02}"),
            'S' => format!("{second:02}"),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'F' => format!("{}-{:02}-{:02}", self.year, self.month, self.day),
            'T' => format!("{hour:02}:{minute:02}:{second:02}"),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_equal_pythons() {
        // date -u -d @N, and Python's strftime.
        for (seconds, format, expected) in [
            (0, "%d %b %Y %A %j", "01 Jan 1970 Thursday 001"),
            (951_782_400, "%Y-%m-%d %j %a", "2000-02-29 060 Tue"),
            (1_764_028_799, "%d %B %Y %H:%M:%S %I %p", "24 November 2025 23:59:59 11 PM"),
            (1_735_603_200, "%F %j %-d %y", "2024-12-31 366 31 24"),
            (1_741_219_200, "%-d/%-m 100%%", "6/3 100%"),
        ] {
            assert_eq!(strftime(format, seconds).unwrap(), expected);
        }
        assert!(strftime("%Q", 0).unwrap_err().to_string().contains("%Q"));
    }
}
