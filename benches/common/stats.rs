//! Medians and percentiles, and numbers as text.

use std::time::Duration;

/// Measurements, sorted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        Self(values)
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        times.into_iter().map(|time| time.as_secs_f64()).collect()
    }
}

impl Samples {
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// What that share of the samples does not exceed; not a number where there are none.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn max(&self) -> f64 {
        self.percentile(100)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Seconds as text, in a unit that suits them; `-` for what was not measured.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s.is_nan() => "-".to_owned(),
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 0.1 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Bytes as text: MB of a million.
pub(crate) fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

/// How many times `other` the value is.
pub(crate) fn ratio(value: f64, other: f64) -> String {
    let ratio = value / other;
    match ratio {
        r if r.is_nan() => "-".to_owned(),
        r if r >= 20.0 => format!("{r:.0}x"),
        r if r < 0.1 => format!("{r:.4}x"),
        r => format!("{r:.2}x"),
    }
}
