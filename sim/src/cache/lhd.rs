//! LHD: who promises the fewest hits for the time that a slot is given away leaves. How many hits
//! an expert of some age still promises, and how long it will take a slot for them, are what
//! experts of that age did before; they are told apart by how long they waited for their last two
//! uses (Beckmann, Chen and Cidon, "LHD: improving cache hit rate by maximizing hit density", NSDI
//! 2018). Cost: the slots per eviction; 16 bytes an expert and 384 KiB of counts.
//! Departures: the paper compares 32 residents drawn at random, here all are; ages are cut into
//! 1,024 steps of a sixty-fourth of the experts each, where the paper finds the step as it goes;
//! counts are looked at every sixteen uses an expert instead of every million, and then fade by a
//! tenth.

use super::residents::Residents;
use super::{Entry, Item, Keep, Moment, Policy, Sees};

pub(super) const ENTRY: Entry = Entry {
    name: "lhd",
    about: "who promises the fewest hits for the time it takes a slot leaves",
    sees: Sees::Past,
    build: |setting| Box::new(Lhd::new(setting.items())),
};

const AGES: usize = 1024;
const CLASSES: usize = 16;
const FADES_TO: f64 = 0.9;

/// What was seen of experts of one class, and what follows from it.
#[derive(Clone)]
struct Class {
    /// `[ages]` how many were used again at that age.
    hits: Vec<f64>,
    /// `[ages]` how many left at that age.
    left: Vec<f64>,
    /// `[ages]` hits by the time that they take.
    density: Vec<f64>,
}

struct Lhd {
    residents: Residents,
    classes: Vec<Class>,
    /// `[items]` position of the last use.
    last: Vec<u64>,
    /// `[items]` ages at the last use and at the one before it.
    waited: Vec<[u16; 2]>,
    /// Look-ups of one step of age.
    step: u64,
    /// The position at which counts are looked at again.
    again: u64,
    every: u64,
}

impl Lhd {
    fn new(items: usize) -> Self {
        // Before anything was seen the youngest is worth the most, as LRU has it.
        let density = (0..AGES).map(|age| 1.0 / (age + 1) as f64).collect();
        let class = Class { hits: vec![0.0; AGES], left: vec![0.0; AGES], density };
        let every = 16 * items as u64;
        Self {
            residents: Residents::new(items),
            classes: vec![class; CLASSES],
            last: vec![0; items],
            waited: vec![[0; 2]; items],
            step: (items as u64 / 64).max(1),
            again: every,
            every,
        }
    }

    fn age(&self, item: Item, now: u64) -> usize {
        let age = now.saturating_sub(self.last[item as usize]) / self.step;
        usize::try_from(age).unwrap_or(AGES).min(AGES - 1)
    }

    /// Which class: the longer it waited, the lower.
    fn class(&self, item: Item) -> usize {
        match self.waited[item as usize].map(usize::from) {
            [0, 0] => CLASSES - 1,
            [last, before] => ((AGES / (last + before)).max(1).ilog2() as usize).min(CLASSES - 1),
        }
    }

    fn look_again(&mut self, now: u64) {
        if now < self.again {
            return;
        }
        self.again = now + self.every;
        for class in &mut self.classes {
            let (mut hits, mut events, mut time) = (0.0, 0.0, 0.0);
            for age in (0..AGES).rev() {
                hits += class.hits[age];
                events += class.hits[age] + class.left[age];
                time += events;
                class.density[age] = if time > 0.0 { hits / time } else { 0.0 };
                class.hits[age] *= FADES_TO;
                class.left[age] *= FADES_TO;
            }
        }
    }
}

impl Policy for Lhd {
    fn hit(&mut self, item: Item, at: Moment) {
        self.look_again(at.position);
        let age = self.age(item, at.position);
        let class = self.class(item);
        self.classes[class].hits[age] += 1.0;
        let [last, _] = self.waited[item as usize];
        self.waited[item as usize] = [age as u16, last];
        self.last[item as usize] = at.position;
    }

    fn admit(&mut self, item: Item, at: Moment) {
        self.look_again(at.position);
        self.waited[item as usize] = [0; 2];
        self.last[item as usize] = at.position;
        self.residents.add(item);
    }

    fn victim(&mut self, _: Item, keep: Keep<'_>, at: Moment) -> Option<Item> {
        let density = |item| self.classes[self.class(item)].density[self.age(item, at.position)];
        self.residents.lowest(keep, density)
    }

    fn evicted(&mut self, item: Item, at: Moment) {
        let (age, class) = (self.age(item, at.position), self.class(item));
        self.classes[class].left[age] += 1.0;
        self.residents.remove(item);
    }
}
