//! One scenario is run, run again, and run on a machine that is twice as slow.

use moecast_profiles::units::SimTime;

use super::facts::Facts;
use super::laws::{self, Outcome, Verdict};
use super::machine;
use super::scenario::{Features, Scenario};
use crate::serving::faults::FaultRecord;
use crate::serving::power::PowerModel;
use crate::serving::record::{Recorder, RecorderSettings, RequestRecord, ServingSummary, Slo};
use crate::serving::service::{RoutingSource, Service};
use crate::serving::simulate::{Served, run};

/// Laws of several runs.
pub(super) const LAWS: [&str; 2] =
    ["the same service twice gives the same facts", "a machine twice as slow takes twice as long"];

/// How much slower than its device the first machine is: a multiple of every number of stages,
/// so that twice as slow is exactly twice as long.
const TIMES: u64 = 12;

/// What a scenario was like.
pub(super) struct Seen {
    pub(super) features: Features,
    pub(super) requests: u64,
    pub(super) passes: u64,
}

/// Runs scenario `seed` and holds it against every law.
pub(super) fn check(seed: u64) -> Result<Seen, String> {
    let mut scenario = Scenario::draw(seed);
    let service = scenario.service(TIMES).map_err(|error| format!("a valid service: {error}"))?;
    let (facts, served) = observed(&service);
    let outcome = Outcome {
        scenario: &scenario,
        service: &service,
        facts: &facts,
        served,
        summary: recorded(&service, served.end)?,
    };
    for law in laws::ALL {
        (law.holds)(&outcome).map_err(|found| format!("{}: {found}", law.name))?;
    }
    again(&service, &facts, served).map_err(|found| format!("{}: {found}", LAWS[0]))?;
    if scales(&scenario) {
        let slower = scenario.service(2 * TIMES)?;
        twice(&slower, &facts, served).map_err(|found| format!("{}: {found}", LAWS[1]))?;
        scenario.features.note("twice as slow");
    }
    notice(&mut scenario.features, &facts, &service);
    let (requests, passes) = (served.completed, served.passes);
    Ok(Seen { features: scenario.features, requests, passes })
}

fn observed(service: &Service) -> (Facts, Served) {
    let mut facts = Facts::default();
    let served = run(service, &mut facts, &mut |_| ());
    (facts, served)
}

fn recorded(service: &Service, end: SimTime) -> Result<ServingSummary, String> {
    let recorder = Recorder::new(RecorderSettings {
        gpus: service.gpus(),
        gpus_per_node: 8,
        replicas: service.replicas(),
        ranks_per_replica: service.ranks_per_replica(),
        slo: Slo::default(),
        power: PowerModel::of(&machine::device(1)),
        price_per_gpu_hour: None,
        timeline_points_max: 8,
    });
    let mut recorder = recorder.map_err(|error| error.to_string())?;
    run(service, &mut recorder, &mut |_| ());
    Ok(recorder.summary(end))
}

fn again(service: &Service, facts: &Facts, served: Served) -> Verdict {
    let (same, same_served) = observed(&service.clone());
    if same == *facts && same_served == served {
        return Ok(());
    }
    Err(format!("{served:?} and then {same_served:?}"))
}

/// Whether times are whole numbers of nanoseconds on both machines: means over draws are not.
fn scales(scenario: &Scenario) -> bool {
    let tokens = match &scenario.routing {
        RoutingSource::Recorded(trace) => trace.tokens().is_some(),
        _ => false,
    };
    let whole = scenario.faults.is_empty();
    let alone = scenario.pools.iter().all(|pool| !pool.layout.exchanges());
    tokens && alone && whole && scenario.speculation.draft_tokens == 0 && scenario.whole_factors()
}

fn twice(slower: &Service, facts: &Facts, served: Served) -> Verdict {
    let (slow, slow_served) = observed(slower);
    let doubled = |time: SimTime| SimTime(2 * time.0);
    if slow_served.end != doubled(served.end) || slow_served.passes != served.passes {
        return Err(format!("{served:?} and {slow_served:?}"));
    }
    for (fast, slow) in facts.requests.iter().zip(&slow.requests) {
        let expected = RequestRecord {
            arrival: doubled(fast.arrival),
            reached: doubled(fast.reached),
            started: doubled(fast.started),
            first_token: doubled(fast.first_token),
            finished: doubled(fast.finished),
            ..fast.clone()
        };
        if *slow != expected {
            return Err(format!("{slow:?}; expected {expected:?}"));
        }
    }
    Ok(())
}

/// What happened, beside what was drawn.
fn notice(features: &mut Features, facts: &Facts, service: &Service) {
    let any = |happened: &dyn Fn(&RequestRecord) -> bool| facts.requests.iter().any(happened);
    features.mark(any(&|record| record.preemptions > 0), "preemption happened");
    features.mark(any(&|record| record.cached_tokens > 0), "prefix was found");
    features.mark(any(&|record| record.retries > 0), "requests were sent back");
    let broke = |happened: &dyn Fn(&FaultRecord) -> bool| facts.faults.iter().any(happened);
    features.mark(broke(&|record| record.lost > 0), "requests were lost");
    features.mark(broke(&|record| record.stops), "a replica stopped");
    let survived = |record: &FaultRecord| record.passes > 0 && !record.stops;
    features.mark(broke(&survived), "a replica lost a rank and went on");
    features.mark(facts.passes.iter().any(|pass| pass.waiting > 0), "requests waited");
    let mixed = |pass: &super::facts::Pass| pass.prefill_tokens > 0 && pass.decode_tokens > 0;
    features.mark(facts.passes.iter().any(mixed), "prompts beside answers");
    let overlap = |two: &[super::facts::Pass]| two[1].start < two[0].end;
    let stages = service.pools.iter().any(|pool| pool.layout.pipeline > 1);
    features.mark(stages && facts.passes.windows(2).any(overlap), "stages overlapped");
}
