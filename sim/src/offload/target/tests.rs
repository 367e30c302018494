//! Layers of a few experts that can be scheduled by hand, and laws over random layers.

use proptest::prelude::*;

use super::*;

fn asked(expert: u16, rows: u32, at: At, gpu: f64, cpu: f64) -> Asked {
    Asked { expert, rows, weight: rows as f32, at, gpu, cpu }
}

fn work(asked: &[Asked]) -> Work<'_> {
    Work { asked, link_busy: 0.0, gpu_busy: 0.0, cpu_busy: 0.0 }
}

fn assign(name: &str, work: &Work<'_>) -> Vec<By> {
    let mut by = Vec::new();
    (find(name).unwrap().build)().assign(work, &mut by);
    by
}

/// Seconds until `name` is done, in the usual order.
fn end(name: &str, work: &Work<'_>) -> f64 {
    makespan(work, &assign(name, work), &order(work))
}

/// The shortest of all 2^n schedules.
fn brute(work: &Work<'_>) -> f64 {
    let order = order(work);
    let schedules = (0..1_u32 << work.asked.len()).map(|bits| {
        let side = |index| if bits >> index & 1 == 1 { By::Cpu } else { By::Gpu };
        let by: Vec<By> = (0..work.asked.len()).map(side).collect();
        makespan(work, &by, &order)
    });
    schedules.fold(f64::INFINITY, f64::min)
}

#[test]
fn experts_in_gpu_memory_come_first_then_those_with_the_most_tokens() {
    let layer = [
        asked(0, 1, At::Host(3.0), 1.0, 1.0),
        asked(1, 9, At::Host(3.0), 1.0, 9.0),
        asked(2, 2, At::Gpu(0.5), 1.0, 2.0),
        asked(3, 1, At::Gpu(0.0), 1.0, 1.0),
    ];
    assert_eq!(order(&work(&layer)), [3, 2, 1, 0]);
}

#[test]
fn hybrid_gives_the_processor_the_tail() {
    // The GPU does expert 0 by 1; the processor expert 3 by 2 and expert 2 by 4, when a copy of
    // expert 1 and its computation would take until 5: the GPU takes that one last, at 1 + 4 = 5,
    // against 4 + 3 = 7 on the processor.
    let layer = [
        asked(0, 1, At::Gpu(0.0), 1.0, 2.0),
        asked(1, 3, At::Host(4.0), 1.0, 3.0),
        asked(2, 1, At::Host(4.0), 1.0, 2.0),
        asked(3, 1, At::Host(4.0), 1.0, 2.0),
    ];
    let work = work(&layer);
    assert_eq!(assign("hybrid", &work), [By::Gpu, By::Gpu, By::Cpu, By::Cpu]);
    assert_eq!(end("hybrid", &work), 5.0);
    assert_eq!(end("gpu", &work), 13.0);
    assert_eq!(end("cpu", &work), 7.0);
}

#[test]
fn hybrid_lets_the_processor_help_with_what_is_in_gpu_memory() {
    let layer = [0, 1, 2].map(|expert| asked(expert, 1, At::Gpu(0.0), 2.0, 3.0));
    assert_eq!(assign("hybrid", &work(&layer)), [By::Gpu, By::Gpu, By::Cpu]);
}

#[test]
fn fiddler_as_coded_overloads_the_processor_where_as_published_it_shares() {
    // Each expert alone is faster on the processor: 4 against 5. All four there take 16; three
    // there and one copied take 12, two and two 10 in the paper's sums (copies do not overlap).
    let layer = [0, 1, 2, 3].map(|expert| asked(expert, 4, At::Host(4.0), 1.0, 4.0));
    let work = work(&layer);
    assert_eq!(assign("fiddler", &work), [By::Cpu; 4]);
    assert_eq!(assign("fiddler-published", &work), [By::Cpu, By::Cpu, By::Gpu, By::Gpu]);
    assert_eq!(end("fiddler", &work), 16.0);
    assert_eq!(end("fiddler-published", &work), 9.0);
}

#[test]
fn fiddler_copies_an_expert_of_many_tokens() {
    let layer = [
        asked(0, 1, At::Host(4.0), 1.0, 1.0),
        asked(1, 64, At::Host(4.0), 1.0, 64.0),
        asked(2, 64, At::Gpu(0.0), 1.0, 64.0),
    ];
    assert_eq!(assign("fiddler", &work(&layer)), [By::Cpu, By::Gpu, By::Gpu]);
}

#[test]
fn best_beats_the_greedy_schedule() {
    // Greedy: the processor takes the small one (done at 2, the GPU at 3), then the GPU the first
    // large one (3 against 2 + 4) and the second (6 against 6): 6. Better: large, large and
    // small on GPU, processor, GPU: 4 for the processor, 5 for the GPU.
    let layer = [
        asked(0, 2, At::Gpu(0.0), 3.0, 4.0),
        asked(1, 2, At::Gpu(0.0), 3.0, 4.0),
        asked(2, 1, At::Gpu(0.0), 2.0, 2.0),
    ];
    let work = work(&layer);
    assert_eq!(end("hybrid", &work), 6.0);
    assert_eq!(end("best", &work), 5.0);
}

#[test]
fn without_a_processor_everything_goes_to_the_gpu() {
    let layer = [0, 1, 2].map(|expert| asked(expert, 1, At::Host(2.0), 1.0, f64::INFINITY));
    for name in ["best", "fiddler", "fiddler-published", "gpu", "hybrid"] {
        assert_eq!(assign(name, &work(&layer)), [By::Gpu; 3], "{name}");
    }
}

fn location() -> impl Strategy<Value = At> {
    let seconds = || (0..20_u32).prop_map(f64::from);
    prop_oneof![
        seconds().prop_map(|ready| At::Gpu(ready / 8.0)),
        seconds().prop_map(At::Host),
        (seconds(), seconds()).prop_map(|(read, copy)| At::Storage(read, copy)),
    ]
}

fn layer(most: usize) -> impl Strategy<Value = Vec<Asked>> {
    let expert = (1..9_u32, location(), 1..9_u32, 1..20_u32);
    prop::collection::vec(expert, 0..=most).prop_map(|experts| {
        let ask = |(expert, (rows, at, gpu, cpu))| {
            asked(expert, rows, at, f64::from(gpu), f64::from(cpu))
        };
        (0..).zip(experts).map(ask).collect()
    })
}

proptest! {
    /// The bound is one, for every entry and with timelines that start late.
    #[test]
    fn best_is_never_longer_than_another(
        layer in layer(20), link_busy in 0..9_u32, gpu_busy in 0..9_u32, cpu_busy in 0..9_u32,
    ) {
        let [link_busy, gpu_busy, cpu_busy] = [link_busy, gpu_busy, cpu_busy].map(f64::from);
        let work = Work { asked: &layer, link_busy, gpu_busy, cpu_busy };
        let best = end("best", &work);
        for entry in ALL {
            prop_assert!(best <= end(entry.name, &work), "{} is shorter", entry.name);
        }
    }

    /// Small layers are solved exactly.
    #[test]
    fn best_is_the_shortest_of_all(layer in layer(7)) {
        prop_assert_eq!(end("best", &work(&layer)), brute(&work(&layer)));
    }

    /// The greedy schedule is never worse than either side alone; reads from storage aside, as the
    /// processor waits for them in another order.
    #[test]
    fn hybrid_is_never_longer_than_gpu_or_processor(layer in layer(12)) {
        let mut layer = layer;
        for asked in &mut layer {
            if let At::Storage(_, copy) = asked.at {
                asked.at = At::Host(copy);
            }
        }
        let work = work(&layer);
        let hybrid = end("hybrid", &work);
        prop_assert!(hybrid <= end("gpu", &work));
        prop_assert!(hybrid <= end("cpu", &work));
    }

    /// Johnson's rule: with copies alike and more seconds for more rows, no order beats ours.
    #[test]
    fn no_other_order_of_copies_is_shorter(
        rows in prop::collection::vec(1..9_u32, 1..6), copy in 1..9_u32, swaps: [u8; 8],
    ) {
        let expert = |(expert, &rows): (u16, &u32)| {
            asked(expert, rows, At::Host(f64::from(copy)), f64::from(rows), 1.0)
        };
        let layer: Vec<Asked> = (0..).zip(&rows).map(expert).collect();
        let (work, by) = (work(&layer), vec![By::Gpu; layer.len()]);
        let mut other = order(&work);
        for (index, swap) in swaps.into_iter().enumerate() {
            other.swap(index % layer.len(), usize::from(swap) % layer.len());
            prop_assert!(makespan(&work, &by, &order(&work)) <= makespan(&work, &by, &other));
        }
    }

    /// Fiddler's shares have the smallest sum, and the smallest maximum where copies are alike.
    #[test]
    fn fiddler_is_exact_in_its_own_costs(
        rows in prop::collection::vec(1..40_u32, 1..8), copy in 1..30_u32,
    ) {
        let expert = |(expert, &rows): (u16, &u32)| {
            asked(expert, rows, At::Host(f64::from(copy)), 1.0, f64::from(rows))
        };
        let layer: Vec<Asked> = (0..).zip(&rows).map(expert).collect();
        let sums = |by: &[By]| {
            let (mut gpu, mut cpu) = (0.0, 0.0);
            for (asked, by) in layer.iter().zip(by) {
                match by {
                    By::Gpu => gpu += f64::from(copy) + asked.gpu,
                    By::Cpu => cpu += asked.cpu,
                }
            }
            (gpu, cpu)
        };
        let (mut sum, mut longer) = (f64::INFINITY, f64::INFINITY);
        for bits in 0..1_u32 << layer.len() {
            let side = |index| if bits >> index & 1 == 1 { By::Cpu } else { By::Gpu };
            let (gpu, cpu) = sums(&(0..layer.len()).map(side).collect::<Vec<_>>());
            sum = f64::min(sum, gpu + cpu);
            longer = longer.min(f64::max(gpu, cpu));
        }
        let (gpu, cpu) = sums(&assign("fiddler", &work(&layer)));
        prop_assert_eq!(gpu + cpu, sum);
        let (gpu, cpu) = sums(&assign("fiddler-published", &work(&layer)));
        prop_assert_eq!(gpu.max(cpu), longer);
    }

    /// Every entry answers for each expert, after what was there, the same every time, and gives
    /// nothing to a processor that is not there unless it says that it needs one.
    #[test]
    fn every_target_answers_once_for_each_expert(layer in layer(16), processor: bool) {
        let mut layer = layer;
        for asked in &mut layer {
            asked.cpu = if processor { asked.cpu } else { f64::INFINITY };
        }
        for entry in ALL {
            let mut by = vec![By::Cpu];
            let target = (entry.build)();
            target.assign(&work(&layer), &mut by);
            prop_assert_eq!(by.len(), layer.len() + 1, "{}", entry.name);
            prop_assert_eq!(by[0], By::Cpu);
            prop_assert_eq!(&by[1..], assign(entry.name, &work(&layer)), "{}", entry.name);
            let given = by[1..].contains(&By::Cpu);
            prop_assert!(entry.needs_processor || !given, "{}", entry.name);
        }
    }
}

#[test]
fn names_are_alphabetical_and_found() {
    assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
    for entry in ALL {
        assert_eq!(find(entry.name).unwrap().name, entry.name);
        assert!(!entry.about.is_empty() && entry.about.len() <= 90, "{}", entry.name);
    }
}
