//! The normal distribution.

/// The value that a normal variable of mean 0 and deviation 1 stays below with probability `p`,
/// 0..1, to seven digits. (Algorithm AS 241, PPND7: Wichura, "The percentage points of the normal
/// distribution", 1988.)
pub fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * (((59.109374720 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179)
            / (((67.187563600 * r + 78.757757664) * r + 17.895169469) * r + 1.0);
    }
    let r = (-p.min(1.0 - p).ln()).sqrt();
    let value = if r <= 5.0 {
        let r = r - 1.6;
        (((0.17023821103 * r + 1.3067284816) * r + 2.7568153900) * r + 1.4234372777)
            / ((0.12021132975 * r + 0.73700164250) * r + 1.0)
    } else {
        let r = r - 5.0;
        (((0.017337203997 * r + 0.42868294337) * r + 3.0812263860) * r + 6.6579051150)
            / ((0.012258202635 * r + 0.24197894225) * r + 1.0)
    };
    value.copysign(q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_tables() {
        for (p, expected) in [
            (0.5, 0.0),
            (0.6, 0.253_347_103),
            (0.975, 1.959_963_985),
            (0.001, -3.090_232_306),
            (1e-6, -4.753_424_309),
            (1e-12, -7.034_483_825),
        ] {
            assert!(
                (quantile(p) - expected).abs() < 1e-6,
                "{p}: {}",
                quantile(p)
            );
        }
    }
}
