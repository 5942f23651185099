//! The date that chat templates ask for.

/// A calendar date, for templates that tell the model what day it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// The year, as in 2026.
    pub year: i32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Date {
    /// The day of the week, 0 being Sunday.
    fn weekday(self) -> usize {
        // Years begin in March here, so that the leap day is the last; weeks repeat every 400 years.
        let (year, month) = if self.month < 3 { (self.year - 1, self.month + 9) } else { (self.year, self.month - 3) };
        let year = year.rem_euclid(400) as u32;
        ((year + year / 4 - year / 100 + (13 * month + 2) / 5 + self.day + 2) % 7) as usize
    }

    /// The date in the manner of C's `strftime`; there is no time of day, so hours, minutes and seconds are 0.
    pub(super) fn format(self, format: &str) -> String {
        let month = MONTHS[(self.month.clamp(1, 12) - 1) as usize];
        let weekday = DAYS[self.weekday()];
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let (mut spec, mut padded) = (chars.next(), true);
            if spec == Some('-') {
                (spec, padded) = (chars.next(), false);
            }
            match spec {
                Some('Y') => out += &self.year.to_string(),
                Some('y') => out += &format!("{:02}", self.year.rem_euclid(100)),
                Some('m') if padded => out += &format!("{:02}", self.month),
                Some('m') => out += &self.month.to_string(),
                Some('d') if padded => out += &format!("{:02}", self.day),
                Some('d') => out += &self.day.to_string(),
                Some('e') => out += &format!("{:2}", self.day),
                Some('B') => out += month,
                Some('b' | 'h') => out += &month[..3],
                Some('A') => out += weekday,
                Some('a') => out += &weekday[..3],
                Some('F') => out += &format!("{}-{:02}-{:02}", self.year, self.month, self.day),
                Some('H' | 'M' | 'S') => out += "00",
                Some('%') => out.push('%'),
                Some(other) => out.extend(['%', other]),
                None => out.push('%'),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_print_as_strftime_prints_them() {
        let date = Date { year: 2024, month: 7, day: 6 };
        assert_eq!(
            date.format("%d %b %Y|%B %-d, %y|%A %a|%F %H:%M|%%|%q%"),
            "06 Jul 2024|July 6, 24|Saturday Sat|2024-07-06 00:00|%|%q%"
        );
        assert_eq!(DAYS[Date { year: 2000, month: 2, day: 29 }.weekday()], "Tuesday");
        assert_eq!(DAYS[Date { year: 2026, month: 1, day: 1 }.weekday()], "Thursday");
    }
}
