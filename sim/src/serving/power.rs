//! What GPUs draw: a line between idle and the limit, by how long kernels run.
//!
//! Power is taken as linear in the share of time in which kernels run, as in Fan, Weber and
//! Barroso, "Power provisioning for a warehouse-sized computer", ISCA 2007. Kernels that run do
//! not draw the whole limit: see [`BUSY_SHARE`]. Deliberately absent: hosts, switches, network
//! cards, cooling, and the difference between prefill (near the limit) and decode (far below it).

use moecast_profiles::hardware::Device;
use moecast_profiles::units::Watts;

/// How far from idle to its limit a GPU goes while its kernels run. Assumed.
///
/// Published figures of engines at work lie on both sides: the serialalice.pt GPU energy benchmark
/// of 2026 has 517 W for H200 at 128 requests (0.70 of the way from 80 W to 700 W), and from 267 W
/// to 680 W for H100 by model and batch (0.27 to 0.97 of the way from 105 W to 700 W).
pub const BUSY_SHARE: f64 = 0.7;

/// Power of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerModel {
    /// While nothing runs on it.
    pub idle: Watts,
    /// Its limit.
    pub max: Watts,
}

impl PowerModel {
    /// The figures of `device`.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        Self { idle: device.power_idle.value, max: device.power_max.value }
    }

    /// Joules that GPUs use in `gpu_seconds` (GPUs times seconds), in `busy_seconds` of which
    /// kernels run.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "watts stay far below 2^53")]
    pub fn energy_j(self, gpu_seconds: f64, busy_seconds: f64) -> f64 {
        let (idle, max) = (self.idle.0 as f64, self.max.0 as f64);
        idle * gpu_seconds + (max - idle).max(0.0) * BUSY_SHARE * busy_seconds
    }
}

#[cfg(test)]
mod tests {
    use moecast_profiles::builtin;

    use super::*;

    #[test]
    fn a_line_from_idle_to_the_limit() {
        // 100 W idle for 10 s, and 0.7 of the 500 W above it for 4 s: 1000 J and 1400 J.
        let power = PowerModel { idle: Watts(100), max: Watts(600) };
        assert!((power.energy_j(10.0, 4.0) - 2400.0).abs() < 1e-9);
        assert!(power.energy_j(0.0, 0.0).abs() < 1e-9);
    }

    #[test]
    fn busy_gpus_of_every_preset_draw_more_than_idle_ones_and_less_than_their_limit() {
        for preset in builtin::HARDWARE {
            let power = PowerModel::of(&builtin::device(preset.name).unwrap());
            let (idle, busy) = (power.energy_j(1.0, 0.0), power.energy_j(1.0, 1.0));
            assert!(0.0 < idle && idle < busy, "{}: {idle} W and {busy} W", preset.name);
            assert!(busy < power.max.0 as f64, "{}: {busy} W", preset.name);
        }
    }
}
