//! Sizes and durations as people write them.

use std::fmt;

use bytesize::ByteSize;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};

/// Bytes: `"100 MB"`, `"64 KiB"`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfSize;
        impl Visitor<'_> for OfSize {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a size, as in \"100 MB\" or \"64 KiB\", or a number of bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                let size: Result<ByteSize, _> = text.trim().parse();
                size.map(|size| Size(size.as_u64()))
                    .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Size, E> {
                u64::try_from(number)
                    .map(Size)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Size, E> {
                Ok(Size(number))
            }
        }
        deserializer.deserialize_any(OfSize)
    }
}

/// A time: `"90s"`, `"5m"`, `"1h 30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub SignedDuration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfTime;
        impl Visitor<'_> for OfTime {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a duration, as in \"90s\", \"5m\" or \"1h 30m\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                let span: Result<Span, _> = text.trim().parse();
                let days = SpanRelativeTo::days_are_24_hours();
                span.and_then(|span| span.to_duration(days))
                    .map(Time)
                    .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(OfTime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Both {
        size: Option<Size>,
        time: Option<Time>,
    }

    #[test]
    fn what_cannot_be_read_says_how_it_looks() {
        let parse = |text: &str| toml::from_str::<Both>(text);
        for (text, bytes) in [
            ("\"100 MB\"", 100_000_000),
            ("\"64KiB\"", 65536),
            ("1000", 1000),
        ] {
            let both = parse(&format!("size = {text}")).expect("a size");
            assert_eq!(both.size, Some(Size(bytes)), "{text}");
        }
        let time = parse("time = \"1h 30m\"").expect("a duration").time;
        assert_eq!(time, Some(Time(SignedDuration::from_secs(5400))));
        let week = parse("time = \"7d\"").expect("a duration").time;
        assert_eq!(week, Some(Time(SignedDuration::from_hours(168))));
        for (text, needle) in [
            ("size = \"100 x\"", "\"100 MB\""),
            ("size = -1", "number of bytes"),
            ("size = true", "\"64 KiB\""),
            ("time = \"soon\"", "\"90s\""),
            ("time = 5", "\"1h 30m\""),
        ] {
            let error = parse(text).expect_err("none").message().to_owned();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }
}
