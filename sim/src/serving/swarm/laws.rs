//! What holds of every run, whatever is served.

use std::collections::BTreeMap;

use moecast_profiles::engine::Scheduler;
use moecast_traces::requests::{Load, PREFIX_BLOCK_TOKENS};

use super::facts::{Facts, Pass};
use super::scenario::Scenario;
use crate::serving::record::{RequestRecord, ServingSummary};
use crate::serving::service::{Preemption, Role, Service};
use crate::serving::simulate::Served;

/// A finished run, and what it was of.
pub(super) struct Outcome<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) service: &'a Service,
    pub(super) facts: &'a Facts,
    pub(super) served: Served,
    pub(super) summary: ServingSummary,
}

/// Says what is wrong.
pub(super) type Verdict = Result<(), String>;

/// A law and its name in reports.
pub(super) struct Law {
    pub(super) name: &'static str,
    pub(super) holds: fn(&Outcome) -> Verdict,
}

/// Laws of one run; those of several runs are in [`super::runs`].
pub(super) const ALL: &[Law] = &[
    Law { name: "every request sent is completed, lost or unserved, once", holds: completed_once },
    Law { name: "faults account for every request that was lost or sent back", holds: faults },
    Law { name: "every request is the one that was asked for", holds: as_asked },
    Law { name: "a request is sent, begun, answered and finished, in this order", holds: ordered },
    Law { name: "time never runs back", holds: never_back },
    Law { name: "gaps between tokens add up to answers", holds: gaps },
    Law { name: "tokens of passes are those of prompts and answers", holds: tokens },
    Law { name: "no more cache is used than there is", holds: cache },
    Law { name: "a pass keeps the limits of tokens and requests", holds: limits },
    Law { name: "passes of one stage do not overlap", holds: lanes },
    Law { name: "a stage has done one pass before it ends the next", holds: stages },
    Law { name: "ranks compute no longer than their passes take", holds: busy },
    Law { name: "cached tokens are whole prefixes of open loads", holds: cached },
    Law { name: "requests that fit to the end are never preempted", holds: preempted },
    Law { name: "replicas that take turns serve equally many", holds: turns },
    Law { name: "clients have one request each in the system", holds: clients },
    Law { name: "requests in the system are their rate times their time (Little)", holds: little },
    Law { name: "the summary agrees with the facts", holds: summed },
];

fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(wrong()) }
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.sum()
}

/// Whether every request was answered: what was told of passes is then all of requests.
fn all_answered(of: &Outcome) -> bool {
    of.served.lost == 0 && of.served.unserved == 0
}

fn completed_once(of: &Outcome) -> Verdict {
    let (served, count) = (of.served, of.service.requests());
    let told = of.facts.requests.len() as u64;
    let ends = [served.sent, served.completed + served.lost + served.unserved];
    // A client whose request is never served asks for no other.
    let open = matches!(of.service.load, Load::Open(_)) || served.unserved == 0;
    let sent = ends == [count; 2] || (!open && ends[0] == ends[1] && ends[0] < count);
    let whole = told == served.completed && served.running == served.unserved;
    let broken = !of.service.faults.is_empty() || all_answered(of);
    ensure(sent && whole && broken && !served.stopped_early, || {
        format!("{count} requests asked for, and {served:?}")
    })?;
    let mut seen = vec![false; count as usize];
    for record in &of.facts.requests {
        let before = std::mem::replace(&mut seen[record.id as usize], true);
        ensure(!before, || format!("request {} finished twice", record.id))?;
    }
    ensure(served.passes == of.facts.passes.len() as u64, || "passes were not told".to_owned())
}

fn faults(of: &Outcome) -> Verdict {
    let records = || of.facts.faults.iter();
    let told = [sum(records().map(|one| one.retried)), sum(records().map(|one| one.lost))];
    let served = [of.served.retried, of.served.lost];
    ensure(told == served, || format!("{told:?} told, {served:?} counted"))?;
    let retries = sum(of.facts.requests.iter().map(|record| u64::from(record.retries)));
    let unanswered = !all_answered(of);
    ensure(retries == of.served.retried || (unanswered && retries < of.served.retried), || {
        format!("{retries} retries of requests, {} counted", of.served.retried)
    })?;
    for record in records() {
        let fault = &of.service.faults[record.fault];
        let begun = record.at == fault.at && record.at <= of.served.end.max(fault.at);
        ensure(begun, || format!("{record:?} of {fault:?}"))?;
    }
    Ok(())
}

fn as_asked(of: &Outcome) -> Verdict {
    for record in &of.facts.requests {
        let id = record.id as usize;
        let (asked, arrival) = match &of.service.load {
            Load::Open(trace) => {
                let one = trace.get(id);
                ((one.input_tokens, one.output_tokens), Some(one.arrival))
            }
            Load::Closed(closed) => {
                let one = closed.requests()[id];
                ((one.input_tokens, one.output_tokens), None)
            }
        };
        let found = (record.input_tokens, record.output_tokens);
        ensure(found == asked && arrival.is_none_or(|time| time == record.arrival), || {
            format!("asked for {asked:?} at {arrival:?}, and {record:?}")
        })?;
    }
    Ok(())
}

fn ordered(of: &Outcome) -> Verdict {
    for record in &of.facts.requests {
        let RequestRecord { arrival, reached, started, first_token, finished, .. } = *record;
        let offset = reached.since(arrival);
        let usual = of.service.factors.ttft_offset;
        let offset_fits = match of.service.load {
            Load::Open(_) => offset == usual,
            Load::Closed(_) => offset <= usual * 2,
        };
        let ordered = reached <= started && started < first_token && first_token <= finished;
        let ordered = ordered && offset_fits;
        // Tokens of one pass come together only where some of them were drafted.
        let drafts = of.scenario.speculation.draft_tokens > 0;
        let alone = (record.output_tokens == 1) == (first_token == finished)
            || (drafts && record.output_tokens > 1);
        ensure(ordered && alone && finished <= of.served.end, || format!("{record:?}"))?;
    }
    Ok(())
}

fn never_back(of: &Outcome) -> Verdict {
    let ends = of.facts.passes.windows(2).all(|two| two[0].end <= two[1].end);
    let finishes = of.facts.requests.windows(2).all(|two| two[0].finished <= two[1].finished);
    ensure(ends && finishes, || "a pass or a request ended before the one told before".to_owned())
}

fn gaps(of: &Outcome) -> Verdict {
    if !all_answered(of) {
        return Ok(());
    }
    let gaps = &of.facts.gaps;
    let counted = sum(gaps.iter().map(|(_, count)| u64::from(*count)));
    let times = sum(gaps.iter().map(|(gap, count)| gap.0 * u64::from(*count)));
    let records = || of.facts.requests.iter();
    let tokens = sum(records().map(|record| u64::from(record.output_tokens) - 1));
    let between = sum(records().map(|record| record.finished.since(record.first_token).0));
    ensure((counted, times) == (tokens, between), || {
        format!("{counted} gaps of {times} ns in all; expected {tokens} of {between} ns")
    })
}

fn tokens(of: &Outcome) -> Verdict {
    if !all_answered(of) {
        return Ok(());
    }
    let records = || of.facts.requests.iter();
    let read = sum(of.facts.passes.iter().map(|pass| pass.prefill_tokens));
    let made = sum(of.facts.passes.iter().map(|pass| pass.decode_tokens));
    let unread = sum(records().map(|record| u64::from(record.input_tokens - record.cached_tokens)));
    let to_make = sum(records().map(|record| u64::from(record.output_tokens) - 1));
    // What was lost is read again, and what was found of it is not; each reading makes a token.
    let (lost, found) = (of.served.lost_tokens, of.served.found_tokens);
    let (passed, expected) = (read + made + found, unread + to_make + lost);
    ensure(passed == expected, || {
        format!(
            "{read} tokens read, {made} made and {found} found again; expected {unread} of \
             prompts, {to_make} of answers and {lost} lost"
        )
    })?;
    let preempted = records().any(|record| record.preemptions > 0);
    let dropped = preempted && of.service.preemption == Preemption::Recompute;
    let dropped = dropped || of.served.retried > 0;
    ensure(dropped || (read, made) == (unread, to_make), || {
        format!("{read} read, {made} made; expected {unread} and {to_make}")
    })
}

fn cache(of: &Outcome) -> Verdict {
    for pass in &of.facts.passes {
        let (used, all) = (pass.kv_blocks_used, pass.kv_blocks);
        ensure(used <= all && all > 0, || format!("{used} of {all} blocks used"))?;
    }
    Ok(())
}

/// `(pool, pass)` of every pass.
fn passes<'a>(of: &'a Outcome) -> impl Iterator<Item = (usize, &'a Pass)> {
    let ends: Vec<u16> = of
        .service
        .pools
        .iter()
        .scan(0, |end, pool| {
            *end += pool.replicas;
            Some(*end)
        })
        .collect();
    let pool = move |replica| ends.partition_point(|end| *end <= replica);
    of.facts.passes.iter().map(move |pass| (pool(pass.replica), pass))
}

fn limits(of: &Outcome) -> Verdict {
    for (pool, pass) in passes(of) {
        let pool = &of.service.pools[pool];
        let ranks = u64::from(pool.layout.data);
        let (budget, most) = (pool.limits.step_tokens_max, pool.limits.sequences_max);
        let apart = of.service.scheduler == Scheduler::PrefillFirst;
        let tokens = pass.prefill_tokens + if apart { 0 } else { pass.decode_tokens };
        ensure(tokens <= u64::from(budget) * ranks, || format!("{pass:?} and at most {budget}"))?;
        let running = u64::from(pass.running);
        ensure(running <= u64::from(most) * ranks, || format!("{pass:?} and at most {most}"))?;
        ensure(!apart || pass.prefill_tokens == 0 || pass.decode_tokens == 0, || {
            format!("{pass:?} mixes prompts and answers")
        })?;
        let prompts = pool.role == Role::Prefill && pass.decode_tokens > 0;
        ensure(!prompts, || format!("{pass:?} generates in a pool for prompts"))?;
    }
    Ok(())
}

fn lanes(of: &Outcome) -> Verdict {
    let mut ends: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    let mut sorted: Vec<(usize, &Pass)> = passes(of).collect();
    sorted.sort_by_key(|(_, pass)| pass.start);
    for (pool, pass) in sorted {
        let under_way = ends.entry(pass.replica).or_default();
        under_way.retain(|end| *end > pass.start.0);
        under_way.push(pass.end.0);
        let stages = usize::from(of.service.pools[pool].layout.pipeline);
        ensure(under_way.len() <= stages && pass.start < pass.end, || {
            format!("{} passes at a time in {stages} stages: {pass:?}", under_way.len())
        })?;
    }
    Ok(())
}

fn stages(of: &Outcome) -> Verdict {
    let mut ends: BTreeMap<u16, u64> = BTreeMap::new();
    for (pool, pass) in passes(of) {
        let before = ends.insert(pass.replica, pass.end.0).unwrap_or(0);
        let stages = u64::from(of.service.pools[pool].layout.pipeline);
        // Parts round up one by one.
        let between = pass.end.0.saturating_sub(before) + 2;
        ensure(between >= pass.work.0 / stages, || {
            format!("{between} ns after another pass in {stages} stages: {pass:?}")
        })?;
    }
    Ok(())
}

fn busy(of: &Outcome) -> Verdict {
    for (pool, pass) in passes(of) {
        let ranks = of.service.pools[pool].layout.ranks() as usize;
        let longest = pass.busy.iter().map(|busy| busy.0).max().unwrap_or(0);
        // Parts round up one by one.
        let within = longest <= pass.end.since(pass.start).0 + 1;
        let sane = pass.imbalance.is_finite() && pass.imbalance >= 0.0;
        ensure(pass.busy.len() == ranks && within && sane, || format!("{ranks} ranks: {pass:?}"))?;
    }
    Ok(())
}

fn cached(of: &Outcome) -> Verdict {
    let prefixes = of.service.prefix_cache && matches!(of.service.load, Load::Open(_));
    for record in &of.facts.requests {
        let (cached, input) = (record.cached_tokens, record.input_tokens);
        let whole = cached.is_multiple_of(PREFIX_BLOCK_TOKENS) || cached == input - 1;
        let possible = cached == 0 || (prefixes && whole && cached < input);
        ensure(possible, || format!("{cached} cached tokens: {record:?}"))?;
    }
    Ok(())
}

fn preempted(of: &Outcome) -> Verdict {
    let never = of.service.scheduler == Scheduler::InFlightBatching;
    let preempted = sum(of.facts.requests.iter().map(|record| u64::from(record.preemptions)));
    ensure(!never || preempted == 0, || format!("{preempted} preemptions"))
}

/// Arrivals and departures in order; at one instant departures first, as a client's next request
/// follows its last one.
fn steps(of: &Outcome) -> Vec<(u64, i64)> {
    let ends = |record: &RequestRecord| [(record.finished.0, -1), (record.arrival.0, 1)];
    let mut steps: Vec<(u64, i64)> = of.facts.requests.iter().flat_map(ends).collect();
    steps.sort_unstable();
    steps
}

fn turns(of: &Outcome) -> Verdict {
    let (last, others) = of.service.pools.split_last().expect("at least one pool");
    let first = others.iter().map(|pool| pool.replicas).sum::<u16>();
    let served = |replica: u16| {
        of.facts.requests.iter().filter(|record| record.replica == first + replica).count()
    };
    let counts: Vec<usize> = (0..last.replicas).map(served).collect();
    let (most, least) = (counts.iter().max().copied(), counts.iter().min().copied());
    let even = most.unwrap_or(0) - least.unwrap_or(0) <= 1;
    let whole = of.service.faults.is_empty();
    ensure(of.service.router.name != "round-robin" || even || !whole, || {
        format!("{counts:?} requests")
    })
}

fn clients(of: &Outcome) -> Verdict {
    let Load::Closed(closed) = &of.service.load else { return Ok(()) };
    let mut there = 0;
    for (time, step) in steps(of) {
        there += step;
        ensure(there <= i64::from(closed.clients()), || {
            format!("{there} requests of {} clients at {time} ns", closed.clients())
        })?;
    }
    Ok(())
}

fn little(of: &Outcome) -> Verdict {
    let (mut there, mut before, mut area) = (0, 0, 0);
    for (time, step) in steps(of) {
        area += there * i128::from(time - before);
        (there, before) = (there + i128::from(step), time);
    }
    let times = of.facts.requests.iter().map(|record| i128::from(record.end_to_end().0));
    let times: i128 = times.sum();
    // Mean number in the system, and rate times mean time, each times the duration of the run.
    ensure(there == 0 && area == times, || format!("{area} request-ns; expected {times}"))
}

fn summed(of: &Outcome) -> Verdict {
    let (summary, facts) = (&of.summary, of.facts);
    let records = || facts.requests.iter();
    let counts = [
        (summary.requests, facts.requests.len() as u64),
        (summary.input_tokens, sum(records().map(|record| u64::from(record.input_tokens)))),
        (summary.output_tokens, sum(records().map(|record| u64::from(record.output_tokens)))),
        (summary.cached_tokens, sum(records().map(|record| u64::from(record.cached_tokens)))),
        (summary.passes, facts.passes.len() as u64),
        (summary.saturated_times, 0),
    ];
    ensure(counts.iter().all(|(told, fact)| told == fact), || format!("{counts:?}"))?;
    let near = 1.0 + 1e-9;
    let shares = summary.rank_utilisation.iter().zip(&summary.rank_waiting_share);
    for (computes, waits) in shares.flat_map(|(busy, waits)| busy.iter().zip(waits)) {
        ensure(computes + waits <= near, || {
            format!("a rank computes {computes} and waits {waits} of the run")
        })?;
    }
    // Requests run or wait while they are in the system. Levels are those at the ends of passes,
    // and passes of both pools that a request goes through can overlap.
    let there = summary.running_mean + summary.waiting_mean;
    let replicas = f64::from(of.service.replicas());
    let most = (of.served.sent * of.service.pools.len() as u64) as f64;
    ensure(there <= most * near && summary.running_max <= most, || {
        format!("{there} requests in the system, of {most}")
    })?;
    ensure(summary.kv_use_max <= 1.0 && summary.kv_use_mean <= summary.kv_use_max * near, || {
        format!("cache: mean {} and most {}", summary.kv_use_mean, summary.kv_use_max)
    })?;
    ensure(summary.running_mean <= summary.running_max * replicas * near, || {
        format!("running: mean {}, most {}", summary.running_mean, summary.running_max)
    })
}
