//! Pieces that the examples share: what is no lesson about scopes lives here, small and tested.
//! Not a library to build on: nothing here is promised to stay.
#![forbid(unsafe_code)]

use std::time::Duration;

pub mod report;
pub mod sums;
pub mod tree;

/// Reads a command-line argument as a number of seconds, fractions allowed.
///
/// # Errors
/// When it is no such number, or one that no clock can reach.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|problem| problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::seconds;
    use std::time::Duration;

    #[test]
    fn fraction_of_a_second_is_read_and_nonsense_refused() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for nonsense in ["", "x", "-1", "NaN", "inf", "1e30"] {
            assert!(seconds(nonsense).is_err(), "{nonsense}");
        }
    }
}
