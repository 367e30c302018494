//! Slow references, each written from the definition with vectors and nothing shared with the
//! policies. In every queue the first is the oldest.

use crate::cache::Item;

/// Hits of a policy with so many slots.
type Reference = fn(&[Item], usize) -> u64;

/// References by the name of the policy.
pub(super) const ALL: [(&str, Reference); 8] = [
    ("arc", arc),
    ("clock", clock),
    ("fifo", fifo),
    ("lfu", lfu),
    ("lru", lru),
    ("s3-fifo", s3_fifo),
    ("sieve", sieve),
    ("slru", slru),
];

fn take(queue: &mut Vec<Item>, item: Item) -> bool {
    let place = queue.iter().position(|&other| other == item);
    place.map(|place| queue.remove(place)).is_some()
}

fn lru(uses: &[Item], slots: usize) -> u64 {
    let (mut queue, mut hits) = (Vec::new(), 0);
    for &item in uses {
        if take(&mut queue, item) {
            hits += 1;
        } else if queue.len() == slots {
            queue.remove(0);
        }
        queue.push(item);
    }
    hits
}

fn fifo(uses: &[Item], slots: usize) -> u64 {
    let (mut queue, mut hits) = (Vec::new(), 0);
    for &item in uses {
        if queue.contains(&item) {
            hits += 1;
            continue;
        }
        if queue.len() == slots {
            queue.remove(0);
        }
        queue.push(item);
    }
    hits
}

fn clock(uses: &[Item], slots: usize) -> u64 {
    let (mut queue, mut hits): (Vec<(Item, bool)>, u64) = (Vec::new(), 0);
    for &item in uses {
        if let Some(found) = queue.iter_mut().find(|(other, _)| *other == item) {
            found.1 = true;
            hits += 1;
            continue;
        }
        while queue.len() == slots {
            let (oldest, used) = queue.remove(0);
            if used {
                queue.push((oldest, false));
            }
        }
        queue.push((item, false));
    }
    hits
}

fn sieve(uses: &[Item], slots: usize) -> u64 {
    let (mut queue, mut hand, mut hits): (Vec<(Item, bool)>, usize, u64) = (Vec::new(), 0, 0);
    for &item in uses {
        if let Some(found) = queue.iter_mut().find(|(other, _)| *other == item) {
            found.1 = true;
            hits += 1;
            continue;
        }
        if queue.len() == slots {
            while queue[hand].1 {
                queue[hand].1 = false;
                hand = (hand + 1) % slots;
            }
            queue.remove(hand);
            // A hand past the newest begins again at the oldest, before the newcomer stands there.
            hand %= slots.max(2) - 1;
        }
        queue.push((item, false));
    }
    hits
}

fn lfu(uses: &[Item], slots: usize) -> u64 {
    // Item, uses since it came, when it reached them.
    let (mut all, mut hits): (Vec<(Item, u64, usize)>, u64) = (Vec::new(), 0);
    for (now, &item) in uses.iter().enumerate() {
        if let Some(found) = all.iter_mut().find(|(other, ..)| *other == item) {
            (found.1, found.2) = (found.1 + 1, now);
            hits += 1;
            continue;
        }
        if all.len() == slots {
            let least = (0..slots).min_by_key(|&place| (all[place].1, all[place].2)).unwrap();
            all.remove(least);
        }
        all.push((item, 1, now));
    }
    hits
}

fn slru(uses: &[Item], slots: usize) -> u64 {
    let most = (slots / 4).max(1);
    let (mut lists, mut hits): ([Vec<Item>; 4], u64) = Default::default();
    for &item in uses {
        if let Some(list) = lists.iter().position(|list| list.contains(&item)) {
            hits += 1;
            take(&mut lists[list], item);
            let higher = (list + 1).min(3);
            if higher > list && lists[higher].len() >= most {
                let sinks = lists[higher].remove(0);
                lists[list].push(sinks);
            }
            lists[higher].push(item);
            continue;
        }
        if lists.iter().map(Vec::len).sum::<usize>() == slots {
            lists.iter_mut().find(|list| !list.is_empty()).unwrap().remove(0);
        }
        let list = lists.iter().position(|list| list.len() < most).unwrap_or(0);
        lists[list].push(item);
    }
    hits
}

fn s3_fifo(uses: &[Item], slots: usize) -> u64 {
    let small_most = (slots / 10).max(1);
    let (main_most, ghosts_most) = (slots - small_most, slots * 9 / 10);
    let [mut small, mut main]: [Vec<(Item, u32)>; 2] = Default::default();
    let (mut ghosts, mut hits, mut has_evicted) = (Vec::new(), 0, false);
    for &item in uses {
        let mut all = small.iter_mut().chain(&mut main);
        if let Some(found) = all.find(|(other, _)| *other == item) {
            found.1 += 1;
            hits += 1;
            continue;
        }
        let returns = take(&mut ghosts, item);
        while small.len() + main.len() == slots {
            has_evicted = true;
            if main.len() > main_most || small.is_empty() {
                let (oldest, uses) = main.remove(0);
                if uses > 0 {
                    main.push((oldest, uses.min(3) - 1));
                }
                continue;
            }
            let (oldest, uses) = small.remove(0);
            if uses >= 2 {
                main.push((oldest, 0));
                // As long as the small queue has somebody, it pays.
                while small.first().is_some_and(|&(_, uses)| uses >= 2) {
                    let (next, _) = small.remove(0);
                    main.push((next, 0));
                }
                if small.is_empty() {
                    continue;
                }
                ghosts.push(small.remove(0).0);
            } else {
                ghosts.push(oldest);
            }
            let over = ghosts.len().saturating_sub(ghosts_most);
            ghosts.drain(..over);
        }
        if returns || (!has_evicted && small.len() >= small_most) {
            main.push((item, 0));
        } else {
            small.push((item, 0));
        }
    }
    hits
}

/// The pseudocode of the paper, case by case.
fn arc(uses: &[Item], slots: usize) -> u64 {
    let [mut t1, mut t2, mut b1, mut b2]: [Vec<Item>; 4] = Default::default();
    let (mut border, mut hits) = (0.0, 0);
    for &item in uses {
        if take(&mut t1, item) || take(&mut t2, item) {
            hits += 1;
            t2.push(item);
            continue;
        }
        let (in_b1, in_b2) = (b1.contains(&item), b2.contains(&item));
        if in_b1 {
            border = (border + (b2.len() as f64 / b1.len() as f64).max(1.0)).min(slots as f64);
        } else if in_b2 {
            border = (border - (b1.len() as f64 / b2.len() as f64).max(1.0)).max(0.0);
        }
        let mut replaces = in_b1 || in_b2;
        if !replaces && t1.len() + b1.len() == slots {
            if t1.len() < slots {
                b1.remove(0);
                replaces = true;
            } else {
                t1.remove(0);
            }
        } else if !replaces && t1.len() + t2.len() + b1.len() + b2.len() >= slots {
            if t1.len() + t2.len() + b1.len() + b2.len() >= 2 * slots && !b2.is_empty() {
                b2.remove(0);
            }
            replaces = true;
        }
        if replaces && t1.len() + t2.len() == slots {
            let once = t1.len() as f64;
            let over = if in_b2 { once >= border } else { once > border };
            if !t1.is_empty() && over {
                b1.push(t1.remove(0));
            } else {
                b2.push(t2.remove(0));
            }
        }
        let known = take(&mut b1, item) || take(&mut b2, item);
        if known { &mut t2 } else { &mut t1 }.push(item);
    }
    hits
}
