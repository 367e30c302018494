//! What engines and algorithms do where nobody says otherwise, and where that is written.

use moecast_profiles::units::Nanos;

/// When an engine looks at its loads.
pub(super) struct Defaults {
    pub(super) window: usize,
    pub(super) interval: usize,
    pub(super) source: &'static str,
}

/// What `engine` does by default.
pub(super) fn of(engine: &str) -> Defaults {
    match engine {
        "vllm" => Defaults {
            window: 1_000,
            interval: 3_000,
            source: "vLLM EPLBConfig, 2025-2026: window_size 1000, step_interval 3000",
        },
        "vllm-ascend" => Defaults {
            window: 600,
            interval: 650,
            source: "vllm-ascend EplbConfig, 2026: expert_heat_collection_interval 600, then \
                     algorithm_execution_interval 50",
        },
        _ => Defaults {
            window: 1_000,
            interval: 1_000,
            source: "SGLang server_args.py, 2025-2026: eplb_rebalance_num_iterations 1000, and a \
                     recorder buffer of as many",
        },
    }
}

/// Geometric middle of what EPLB's Python took on two cores, seconds, for so many slots.
const EPLB_SECONDS: f64 = 0.98;
const EPLB_SLOTS: f64 = 58.0 * 288.0;

/// Where [`eplb_time`] comes from.
pub(super) const EPLB_SOURCE: &str = "time of the algorithm: assumed to grow with slots from \
    what EPLB's Python was measured to take on two cores, 0.34 to 2.8 s for 58 layers of 288 slots \
    (middle 0.98 s); --algorithm-time replaces it";

/// What one call of EPLB takes for `layers` layers of `slots` slots.
#[expect(clippy::cast_precision_loss, reason = "a number of layers is small")]
pub(super) fn eplb_time(layers: usize, slots: u16) -> Nanos {
    let all = layers as f64 * f64::from(slots);
    Nanos::ceil_from(EPLB_SECONDS * all / EPLB_SLOTS * 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_case_takes_what_was_measured() {
        assert_eq!(eplb_time(58, 288), Nanos(980_000_000));
        assert_eq!(eplb_time(0, 288), Nanos(0));
    }
}
