//! What rebalancing could gain at most: every interval is served by the placement that is made
//! from the loads of that very interval, for nothing.

use moecast_profiles::units::Nanos;

use super::loads::window;
use super::tape::Tape;
use super::timeline::outcomes;
use super::{Algorithm, Rebalanced, check_shape};
use crate::error::{Error, Result};
use crate::scenario::Scenario;

/// Serves the recording of `scenario` by placements that know the future: no policy with this
/// `algorithm` and `interval` can have better ones. It moves weights in no time.
///
/// # Errors
/// When the recording has no steps, `interval` is 0, or the algorithm answers with an error or a
/// placement of another shape.
pub fn clairvoyant(
    scenario: &Scenario,
    interval: usize,
    algorithm: &Algorithm,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Rebalanced> {
    let steps = scenario.trace.steps().len();
    if interval == 0 || steps == 0 {
        let found = format!("{steps} steps, {interval} at a time");
        return Err(Error::scenario("interval", found, "at least one of each"));
    }
    let mut scenario = scenario.clone();
    let mut tape = Tape::new();
    for from in (0..steps).step_by(interval) {
        let to = (from + interval).min(steps);
        let proposed = algorithm(&window(&scenario.trace, from..to))?;
        check_shape(&scenario.placement, &proposed)?;
        scenario.placement = proposed;
        tape.considered += 1;
        tape.calls += 1;
        for outcome in outcomes(&scenario, from, to) {
            tape.push(outcome, Nanos(0));
        }
        progress(to - from);
    }
    Ok(tape.finish(&scenario))
}
