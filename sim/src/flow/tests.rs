use moecast_profiles::seed::Seed;
use moecast_profiles::units::{Nanos, SimTime};
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Generator;

use super::*;

const NO_LIMIT: f64 = f64::INFINITY;

/// Route and limit.
type Plan = (Vec<(u32, f64)>, f64);

/// Links by capacity, and flows.
struct System {
    capacities: Vec<f64>,
    flows: Vec<Plan>,
}

fn whole(links: &[u32]) -> Vec<(u32, f64)> {
    links.iter().map(|link| (*link, 1.0)).collect()
}

fn system(capacities: &[f64], routes: &[&[u32]]) -> System {
    let flows = routes.iter().map(|route| (whole(route), NO_LIMIT)).collect();
    System { capacities: capacities.to_vec(), flows }
}

impl System {
    fn start(&self) -> (Sharing, Vec<FlowId>) {
        let mut sharing = Sharing::new(self.capacities.clone());
        let start = |(route, limit): &Plan| sharing.start(route, *limit);
        let flows = self.flows.iter().map(start).collect();
        (sharing, flows)
    }

    fn rates(&self) -> Vec<f64> {
        let (mut sharing, flows) = self.start();
        sharing.solve();
        flows.iter().map(|flow| sharing.rate(*flow)).collect()
    }
}

#[test]
fn one_link_is_divided_equally() {
    // Three flows over a link of 6: 2 each.
    assert_eq!(system(&[6.0], &[&[0], &[0], &[0]]).rates(), [2.0, 2.0, 2.0]);
    assert_eq!(system(&[6.0], &[&[0]]).rates(), [6.0]);
}

#[test]
fn what_a_flow_cannot_use_goes_to_the_others() {
    // Link 0 of 1 has flows a and b; link 1 of 10 has b and c. b gets 0.5 on link 0, so c the
    // remaining 9.5.
    assert_eq!(system(&[1.0, 10.0], &[&[0], &[0, 1], &[1]]).rates(), [0.5, 0.5, 9.5]);
}

#[test]
fn a_long_flow_shares_each_link_of_a_line() {
    // The parking lot: one flow over three links of 1, and one more on each: 0.5 everywhere.
    let line = system(&[1.0; 3], &[&[0, 1, 2], &[0], &[1], &[2]]);
    assert_eq!(line.rates(), [0.5; 4]);
}

#[test]
fn a_limit_is_a_link_of_its_own() {
    // A link of 6 and three flows, one of which wants 1: the others get 2.5.
    let mut limited = system(&[6.0], &[&[0], &[0], &[0]]);
    limited.flows[1].1 = 1.0;
    assert_eq!(limited.rates(), [2.5, 1.0, 2.5]);
    // A flow without links has what it wants.
    let alone = System { capacities: Vec::new(), flows: vec![(Vec::new(), 7.0)] };
    assert_eq!(alone.rates(), [7.0]);
}

#[test]
fn a_flow_loads_a_link_with_its_share() {
    // Flow 0 loads link 0 whole and link 1 by half, flow 1 link 1 whole. Both rise to 1, where
    // link 0 is full; then flow 1 rises to 1.5, for flow 0 takes 0.5 of link 1.
    let flows = vec![(vec![(0, 1.0), (1, 0.5)], NO_LIMIT), (vec![(1, 1.0)], NO_LIMIT)];
    let halves = System { capacities: vec![1.0, 2.0], flows };
    assert_eq!(halves.rates(), [1.0, 1.5]);
    let (mut sharing, _) = halves.start();
    sharing.solve();
    assert_eq!((sharing.load(0), sharing.load(1)), (1.0, 2.0));
    // A link that comes twice is loaded twice.
    let twice = System { capacities: vec![3.0], flows: vec![(whole(&[0, 0]), NO_LIMIT)] };
    assert_eq!(twice.rates(), [1.5]);
}

#[test]
fn a_link_without_capacity_stalls_and_one_without_end_does_not() {
    assert_eq!(system(&[0.0, 4.0], &[&[0, 1], &[1]]).rates(), [0.0, 4.0]);
    assert_eq!(system(&[-0.0, 4.0], &[&[0, 1], &[1]]).rates(), [0.0, 4.0]);
    assert_eq!(system(&[f64::INFINITY, 4.0], &[&[0], &[0, 1]]).rates(), [f64::INFINITY, 4.0]);
}

#[test]
fn only_what_a_change_reaches_is_solved_again() {
    // Flows 0 and 1 share link 0; flow 2 is alone on link 1.
    let (mut sharing, flows) = system(&[2.0, 3.0], &[&[0], &[0], &[1]]).start();
    sharing.solve();
    assert_eq!(sharing.changed(), flows);
    sharing.stop(flows[0]);
    assert_eq!((sharing.is_dirty(), sharing.rate(flows[1])), (true, 1.0));
    sharing.solve();
    assert_eq!((sharing.changed(), sharing.rate(flows[1])), (&flows[1..2], 2.0));
    sharing.set_capacity(1, 3.0);
    assert!(!sharing.is_dirty());
    // The number of a flow that stopped is given again.
    assert_eq!(sharing.start(&whole(&[1]), NO_LIMIT), flows[0]);
    sharing.set_capacity(1, 5.0);
    sharing.solve();
    assert_eq!((sharing.rate(flows[0]), sharing.rate(flows[2])), (2.5, 2.5));
    assert_eq!((sharing.rate(flows[1]), sharing.load(0)), (2.0, 2.0));
}

fn random(generator: &mut Generator) -> System {
    let links = generator.random_range(1..=5_u32);
    let capacity = |generator: &mut Generator| f64::from(generator.random_range(0..=8_u32));
    let capacities = (0..links).map(|_| capacity(generator)).collect();
    let flows = (0..generator.random_range(1..=6_u32)).map(|_| random_flow(generator, links));
    let flows = flows.collect();
    System { capacities, flows }
}

fn random_flow(generator: &mut Generator, links: u32) -> Plan {
    let mut route = Vec::new();
    for link in 0..links {
        if generator.random_range(0..2_u32) == 0 {
            let eighths = [8, 8, 8, 4, 1][generator.random_range(0..5_usize)];
            route.push((link, f64::from(eighths) / 8.0));
        }
    }
    let limited = route.is_empty() || generator.random_range(0..4_u32) == 0;
    let limit = if limited { f64::from(generator.random_range(0..=6_u32)) } else { NO_LIMIT };
    (route, limit)
}

/// Whether no link and no limit is exceeded.
fn fits(system: &System, rates: &[f64]) -> bool {
    let mut loads = vec![0.0; system.capacities.len()];
    for ((route, limit), rate) in system.flows.iter().zip(rates) {
        if *rate > limit + 1e-12 {
            return false;
        }
        for (link, share) in route {
            loads[*link as usize] += share * rate;
        }
    }
    loads.iter().zip(&system.capacities).all(|(load, capacity)| *load <= capacity + 1e-12)
}

/// Rates by trial: all free flows at the highest common rate that fits (by bisection); then those
/// that do not fit with a little more, each tried alone, stay there.
fn by_trial(system: &System) -> Vec<f64> {
    let mut rates = vec![0.0; system.flows.len()];
    let mut free: Vec<usize> = (0..rates.len()).collect();
    while !free.is_empty() {
        let (mut low, mut high) = (0.0, 1e3);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            free.iter().for_each(|flow| rates[*flow] = middle);
            if fits(system, &rates) { low = middle } else { high = middle }
        }
        free.iter().for_each(|flow| rates[*flow] = low);
        let before = free.len();
        free.retain(|&flow| {
            let mut more = rates.clone();
            more[flow] += 1e-6;
            fits(system, &more)
        });
        assert!(free.len() < before, "nobody was held back");
    }
    rates
}

/// Every flow is held by its limit, or by a full link on which nobody has more.
fn assert_fair(sharing: &Sharing, flows: &[FlowId], limit: impl Fn(usize) -> f64) {
    for (index, flow) in flows.iter().enumerate() {
        let rate = sharing.rate(*flow);
        let held = sharing.route(*flow).any(|(link, _)| {
            let full = sharing.load(link) >= sharing.capacity(link) - 1e-9;
            let crosses = |other: &&FlowId| sharing.route(**other).any(|(at, _)| at == link);
            full && flows.iter().filter(crosses).all(|other| sharing.rate(*other) <= rate + 1e-9)
        });
        assert!(held || rate == limit(index), "flow {index} could have more than {rate}");
    }
}

#[test]
fn ten_thousand_random_systems_as_by_trial() {
    let mut generator = Seed(1).stream("flow/trial");
    for number in 0..10_000 {
        let system = random(&mut generator);
        let (mut sharing, flows) = system.start();
        sharing.solve();
        let rates: Vec<f64> = flows.iter().map(|flow| sharing.rate(*flow)).collect();
        assert!(fits(&system, &rates), "system {number} is overloaded: {rates:?}");
        assert_fair(&sharing, &flows, |flow| system.flows[flow].1);
        for (rate, slow) in rates.iter().zip(by_trial(&system)) {
            assert!((rate - slow).abs() < 1e-5, "system {number}: {rate} and by trial {slow}");
        }
    }
}

#[test]
fn step_by_step_is_as_from_scratch() {
    let mut generator = Seed(2).stream("flow/steps");
    for _ in 0..200 {
        let System { mut capacities, .. } = random(&mut generator);
        capacities.extend([3.0, 5.0, 1.0]);
        let links = capacities.len() as u32;
        let mut sharing = Sharing::new(capacities.clone());
        let mut live: Vec<(FlowId, Plan)> = Vec::new();
        for _ in 0..40 {
            match generator.random_range(0..5_u32) {
                0 if !live.is_empty() => {
                    let (flow, _) = live.swap_remove(generator.random_range(0..live.len()));
                    sharing.stop(flow);
                }
                1 => {
                    let link = generator.random_range(0..links);
                    capacities[link as usize] = f64::from(generator.random_range(0..=8_u32));
                    sharing.set_capacity(link, capacities[link as usize]);
                }
                _ => {
                    let (route, limit) = random_flow(&mut generator, links);
                    live.push((sharing.start(&route, limit), (route, limit)));
                }
            }
            if generator.random_range(0..3_u32) > 0 {
                continue;
            }
            sharing.solve();
            // In the order of numbers the sums are the same to the last bit.
            live.sort_by_key(|(flow, _)| *flow);
            let flows = live.iter().map(|(_, flow)| flow.clone()).collect();
            let afresh = System { capacities: capacities.clone(), flows }.rates();
            let rates: Vec<f64> = live.iter().map(|(flow, _)| sharing.rate(*flow)).collect();
            assert_eq!(rates, afresh);
        }
    }
}

/// Ends every flow in turn; the times at which they end.
fn run(transfers: &mut Transfers) -> Vec<(u64, FlowId)> {
    let mut ends = Vec::new();
    while let Some((time, flow)) = transfers.next_end(SimTime(u64::MAX)) {
        assert_eq!(transfers.end(flow, time), 0.0);
        ends.push((time.0, flow));
    }
    ends
}

#[test]
fn an_amount_takes_its_latency_and_its_time() {
    // 100 at 2 a nanosecond after 7 ns: 57; a second on the same link from 17 ns on. Until 17 the
    // first moved 20; then both have 1: the second needs 30 ns, and the first's 50 left take 25.
    let mut transfers = Transfers::new(vec![2.0]);
    let first = transfers.start(SimTime(0), 100.0, Nanos(7), &[(0, 1.0)]);
    assert_eq!(transfers.next_change(), Some(SimTime(7)));
    assert_eq!(transfers.next_end(SimTime(10)), None);
    let second = transfers.start(SimTime(10), 30.0, Nanos(7), &[(0, 1.0)]);
    assert_eq!(run(&mut transfers), [(47, second), (72, first)]);
    assert_eq!(transfers.carried(SimTime(80)), [130.0]);
}

#[test]
fn ends_are_rounded_up_and_carry_their_amount_exactly() {
    // 10 at 3 a nanosecond: 3.33 ns, so 4.
    let mut transfers = Transfers::new(vec![3.0, 9.0]);
    let flow = transfers.start(SimTime(5), 10.0, Nanos(0), &[(0, 1.0), (1, 0.5)]);
    assert_eq!(transfers.carried(SimTime(7)), [6.0, 3.0]);
    assert_eq!(run(&mut transfers), [(9, flow)]);
    assert_eq!(transfers.carried(SimTime(9)), [10.0, 5.0]);
}

#[test]
fn nothing_to_move_ends_with_its_latency_and_without_links_at_once() {
    let mut transfers = Transfers::new(vec![0.0]);
    let empty = transfers.start(SimTime(1), 0.0, Nanos(3), &[(0, 1.0)]);
    let here = transfers.start(SimTime(1), 1e9, Nanos(2), &[]);
    assert_eq!(run(&mut transfers), [(3, here), (4, empty)]);
}

#[test]
fn a_stalled_flow_never_ends_until_its_link_is_back() {
    let mut transfers = Transfers::new(vec![0.0, 1.0]);
    let stalled = transfers.start(SimTime(0), 8.0, Nanos(2), &[(0, 1.0), (1, 1.0)]);
    assert_eq!(transfers.next_end(SimTime(u64::MAX)), None);
    assert_eq!((transfers.next_change(), transfers.rate(stalled)), (None, 0.0));
    transfers.set_capacity(SimTime(100), 0, 4.0);
    assert_eq!(transfers.next_change(), Some(SimTime(108)));
    // Down again half way, and up after 50 ns.
    transfers.set_capacity(SimTime(104), 1, 0.0);
    assert_eq!(transfers.next_change(), None);
    transfers.set_capacity(SimTime(154), 1, 1.0);
    assert_eq!(run(&mut transfers), [(158, stalled)]);
}

#[test]
fn a_flow_may_be_taken_out_before_its_end() {
    let mut transfers = Transfers::new(vec![1.0]);
    let first = transfers.start(SimTime(0), 10.0, Nanos(0), &[(0, 1.0)]);
    let second = transfers.start(SimTime(0), 10.0, Nanos(0), &[(0, 1.0)]);
    let late = transfers.start(SimTime(0), 10.0, Nanos(50), &[(0, 1.0)]);
    // Both moved 2; the second has the link for itself then.
    assert_eq!((transfers.end(first, SimTime(4)), transfers.end(late, SimTime(4))), (8.0, 10.0));
    assert_eq!(run(&mut transfers), [(12, second)]);
    assert_eq!(transfers.carried(SimTime(12)), [12.0]);
}

#[test]
#[should_panic(expected = "flow 0 ended at 10 ns, and it is 11 ns already")]
fn an_end_may_not_be_passed_over() {
    let mut transfers = Transfers::new(vec![1.0]);
    transfers.start(SimTime(0), 10.0, Nanos(0), &[(0, 1.0)]);
    transfers.start(SimTime(11), 1.0, Nanos(0), &[(0, 1.0)]);
}

#[test]
fn links_carry_what_flows_moved_and_never_more_than_they_can() {
    let mut generator = Seed(3).stream("flow/transfers");
    for _ in 0..500 {
        let capacities: Vec<f64> =
            (0..4).map(|_| f64::from(generator.random_range(1..=8_u32))).collect();
        let mut transfers = Transfers::new(capacities.clone());
        let (mut expected, mut now, mut live) = ([0.0; 4], 0, 0);
        for _ in 0..30 {
            let until = SimTime(now + generator.random_range(0..30_u64));
            while let Some((time, flow)) = transfers.next_end(until) {
                assert!(time.0 >= now && time <= until);
                now = time.0;
                assert_eq!(transfers.end(flow, time), 0.0);
                live -= 1;
            }
            now = until.0;
            let (route, _) = random_flow(&mut generator, 4);
            let amount = f64::from(generator.random_range(0..200_u32));
            let latency = Nanos(generator.random_range(0..20));
            transfers.start(until, amount, latency, &route);
            route.iter().for_each(|(link, share)| expected[*link as usize] += amount * share);
            live += 1;
            for (carried, capacity) in transfers.carried(until).iter().zip(&capacities) {
                assert!(*carried <= capacity * now as f64 + 1e-6, "{carried} by {now} ns");
            }
        }
        let ended = run(&mut transfers);
        assert_eq!(ended.len(), live);
        let last = ended.iter().map(|(time, _)| *time).max().unwrap_or(now);
        for (carried, expected) in transfers.carried(SimTime(last.max(now))).iter().zip(expected) {
            assert!((carried - expected).abs() < 1e-6, "{carried} of {expected}");
        }
    }
}
