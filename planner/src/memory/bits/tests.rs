//! What holds for every precision policy in [`ALL`], and for the exact ones against brute force.

use proptest::prelude::*;

use super::*;

/// Importance `[M][E]` from raw numbers, and errors of a table at widths 1, 2, 3, 4 and 8 that need
/// not fall evenly.
fn task_of(raw: &[Vec<(u8, u8, u8)>]) -> (Importance, Errors) {
    let part = |of: fn(&(u8, u8, u8)) -> u8| -> Vec<Vec<f64>> {
        raw.iter().map(|row| row.iter().map(|cell| f64::from(of(cell)) / 64.0).collect()).collect()
    };
    let importance =
        Importance { share: part(|cell| cell.0), weight: part(|cell| cell.1), remarks: Vec::new() };
    let mut text = "layer,expert,bits,error\n".to_owned();
    for (layer, row) in raw.iter().enumerate() {
        for (expert, cell) in row.iter().enumerate() {
            for (index, bits) in ASSUMED_WIDTHS.iter().enumerate() {
                // Falls with the bits, by steps that differ from expert to expert.
                let error = u32::from(cell.2) >> index;
                text += &format!("{layer},{expert},{bits},{error}\n");
            }
        }
    }
    let layers: Vec<u16> = (0..u16::try_from(raw.len()).unwrap()).collect();
    let experts = u16::try_from(raw[0].len()).unwrap();
    (importance, Errors::read(text.as_bytes(), "f", &layers, experts).unwrap())
}

fn any_raw() -> impl Strategy<Value = Vec<Vec<(u8, u8, u8)>>> {
    (1..=3_usize, 2..=4_usize).prop_flat_map(|(layers, experts)| {
        let cell = (0..=16_u8, 1..=16_u8, any::<u8>());
        prop::collection::vec(prop::collection::vec(cell, experts), layers)
    })
}

/// The least cost of all widths `allowed` of all experts within `bits`, and of those, that `accept`
/// takes.
fn brute_force(
    task: &Task<'_>,
    layers: &[usize],
    allowed: &[u8],
    bits: usize,
    accept: impl Fn(&[u8]) -> bool,
) -> f64 {
    let (_, experts) = task.importance.shape();
    let places: Vec<(usize, usize)> =
        layers.iter().flat_map(|&layer| (0..experts).map(move |expert| (layer, expert))).collect();
    let at = |width: u8| task.errors.widths().iter().position(|known| *known == width).unwrap();
    let mut best = f64::INFINITY;
    let mut chosen = vec![0; places.len()];
    loop {
        let widths: Vec<u8> = chosen.iter().map(|&index: &usize| allowed[index]).collect();
        if widths.iter().map(|&width| usize::from(width)).sum::<usize>() <= bits && accept(&widths)
        {
            let pairs = places.iter().zip(&widths);
            let cost = |((layer, expert), &width): (&(usize, usize), &u8)| {
                task.costs(*layer, *expert, &[at(width)])[0]
            };
            best = best.min(pairs.map(cost).sum());
        }
        let Some(next) = chosen.iter().position(|&index| index + 1 < allowed.len()) else {
            return best;
        };
        chosen[next] += 1;
        chosen[..next].fill(0);
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-12)
}

#[test]
fn names_ascend_and_a_typo_is_answered() {
    assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert!(find("pmk").err().unwrap().to_string().contains("did you mean `pmq`?"));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let (importance, errors) = task_of(&[vec![(1, 1, 1), (1, 1, 1)]]);
    for entry in ALL {
        for budget in [f64::NAN, 0.0, -1.0, 0.5, 100.0] {
            let error = (entry.assign)(&Task::new(&importance, &errors, budget)).unwrap_err();
            assert!(error.to_string().contains("budget"), "{}: {error}", entry.name);
        }
        let other = Errors::assumed(2, 2);
        let error = (entry.assign)(&Task::new(&importance, &other, 4.0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "plan: precision: errors: errors of 2 layers of 2 experts; expected 1 layers of 2 \
             experts, as in the trace"
        );
    }
    let table = b"layer,expert,bits,error\n0,0,4,1\n0,1,4,1\n";
    let four = Errors::read(table, "f", &[0], 2).unwrap();
    let error = (pmq::ENTRY.assign)(&Task::new(&importance, &four, 4.0)).unwrap_err();
    assert!(error.to_string().contains("no error of 1 bits; there are [4]"), "{error}");
}

#[test]
fn a_model_of_128_experts_is_solved_exactly() {
    let experts = |layer: u32| (0..128_u32).map(move |e| ((e * 37 + layer * 11) % 17, e % 13));
    let raw: Vec<Vec<(u8, u8, u8)>> = (0..4)
        .map(|layer| {
            experts(layer).map(|(a, b)| (a as u8, b as u8 + 1, (a * 15 + b) as u8)).collect()
        })
        .collect();
    let (importance, errors) = task_of(&raw);
    for (name, bits) in [("pmq", 2.05), ("budget", 2.55)] {
        let task = Task::new(&importance, &errors, bits);
        let found = (find(name).unwrap().assign)(&task).unwrap();
        assert!(near(found.cost, found.bound.unwrap()), "{name}: {}", found.how);
        assert!(found.mean_bits() <= bits + 1e-9);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_budget_holds_and_more_bits_never_cost_more(raw in any_raw(), bits in 20..80_u32) {
        let (importance, errors) = task_of(&raw);
        let budget = f64::from(bits) / 10.0;
        for entry in ALL {
            let of = |budget| (entry.assign)(&Task::new(&importance, &errors, budget));
            let Ok(found) = of(budget) else { continue };
            prop_assert!(found.mean_bits() <= budget + 1e-9, "{}", entry.name);
            prop_assert!(found.bound.is_none_or(|bound| bound <= found.cost + 1e-9));
            let more = of(budget + 0.1).unwrap();
            prop_assert!(more.cost <= found.cost + 1e-9, "{}: {budget}", entry.name);
        }
    }

    #[test]
    fn pmq_costs_what_the_best_of_all_ways_costs(raw in any_raw(), more in 0..8_usize) {
        let (importance, errors) = task_of(&raw);
        let experts = raw[0].len();
        let bits = experts + 3 + more;
        let task = Task::new(&importance, &errors, bits as f64 / experts as f64);
        let found = (pmq::ENTRY.assign)(&task).unwrap();
        let accept = |widths: &[u8]| widths.contains(&3) && widths.contains(&2);
        let best: f64 = (0..raw.len())
            .map(|layer| brute_force(&task, &[layer], &[1, 2, 3], bits, accept))
            .sum();
        prop_assert!(near(found.cost, best), "{} {best}", found.cost);
        prop_assert!(found.bits.iter().all(|row| accept(row)));
    }

    #[test]
    fn one_budget_costs_what_the_best_of_all_ways_costs(
        raw in any_raw().prop_filter("small", |raw| raw.len() * raw[0].len() <= 6),
        bits in 10..80_usize,
    ) {
        let (importance, errors) = task_of(&raw);
        let places = raw.len() * raw[0].len();
        let task = Task::new(&importance, &errors, bits as f64 / 10.0);
        let found = (budget::ENTRY.assign)(&task).unwrap();
        let layers: Vec<usize> = (0..raw.len()).collect();
        let best =
            brute_force(&task, &layers, &ASSUMED_WIDTHS, task.total(places), |_| true);
        prop_assert!(near(found.cost, best), "{} {best}", found.cost);
    }
}
