//! The laws of a memory plan.

use moecast_profiles::ids::ExpertId;

use super::{BITS_MAX, CELLS_MAX, Figures, MemoryPlan, Slots, VERSION};
use crate::error::{Error, Result};

impl MemoryPlan {
    /// Checks what the types leave open: layers ascend and lie within the model; every list is as
    /// long as they are; ids are below `experts` and ascend; no more slots than experts beside the
    /// pinned ones; widths of 1 to [`BITS_MAX`] bits; pinned experts and slots fit the budget;
    /// figures are numbers.
    ///
    /// # Errors
    /// Names the key, what it holds and what would hold.
    pub fn check(&self) -> Result<()> {
        if self.version != VERSION {
            return refuse("version", self.version.to_string(), VERSION.to_string());
        }
        self.check_layers()?;
        self.check_rows()?;
        self.check_slots()?;
        let needed = self.pinned_bytes() + self.slot_bytes();
        if needed > u128::from(self.budget) {
            let found = format!("{} bytes for {needed} bytes of experts", self.budget);
            return refuse("budget", found, "what pinned experts and slots fit into".to_owned());
        }
        self.check_figures()
    }

    fn check_layers(&self) -> Result<()> {
        let Some(last) = self.layers.last() else {
            return refuse("layers", "no layers".to_owned(), "at least one layer".to_owned());
        };
        if let Some(pair) = self.layers.windows(2).find(|pair| pair[0] >= pair[1]) {
            let found = format!("{} before {}", pair[0], pair[1]);
            return refuse("layers", found, "absolute numbers that ascend, each once".to_owned());
        }
        if let Some(hidden) = self.hidden_layers.filter(|hidden| last >= hidden) {
            let expected = format!("layer numbers below {hidden}, as `hidden_layers` says");
            return refuse("layers", last.to_string(), expected);
        }
        if self.experts == 0 || self.top_k == 0 || self.top_k > self.experts {
            let found = format!("{} of {} experts", self.top_k, self.experts);
            return refuse("top_k", found, "at least 1, and no more than there are".to_owned());
        }
        let cells = self.layers.len() * usize::from(self.experts);
        if cells > CELLS_MAX {
            let found = format!("{cells} experts in all layers");
            return refuse("experts", found, format!("at most {CELLS_MAX}"));
        }
        let lengths = [
            ("pinned", Some(self.pinned.len())),
            ("expert_bytes", Some(self.expert_bytes.len())),
            ("bits", (!self.bits.is_empty()).then_some(self.bits.len())),
            ("loads", (!self.loads.is_empty()).then_some(self.loads.len())),
        ];
        for (key, length) in lengths {
            if let Some(length) = length.filter(|length| *length != self.layers.len()) {
                let expected = format!("{}, one for each of `layers`", self.layers.len());
                return refuse(key, format!("{length} layers"), expected);
            }
        }
        Ok(())
    }

    fn check_rows(&self) -> Result<()> {
        let experts = self.experts;
        for (layer, row) in self.pinned.iter().enumerate() {
            let key = format!("pinned[{layer}]");
            if let Some(pair) = row.windows(2).find(|pair| pair[0] >= pair[1]) {
                let found = format!("{} before {}", pair[0], pair[1]);
                return refuse(&key, found, "experts that ascend, each once".to_owned());
            }
            if let Some(odd) = row.iter().find(|expert| expert.0 >= experts) {
                return refuse(&key, odd.to_string(), format!("an expert id below {experts}"));
            }
        }
        if let Some(layer) = self.expert_bytes.iter().position(|bytes| *bytes == 0) {
            return refuse(&format!("expert_bytes[{layer}]"), "0".to_owned(), "bytes".to_owned());
        }
        let counted = |row: &Vec<u64>| row.len() == usize::from(experts);
        if let Some(layer) = self.loads.iter().position(|row| !counted(row)) {
            let found = format!("{} counts", self.loads[layer].len());
            let expected = format!("{experts}, one for each expert");
            return refuse(&format!("loads[{layer}]"), found, expected);
        }
        for (layer, row) in self.bits.iter().enumerate() {
            let key = format!("bits[{layer}]");
            if row.len() != usize::from(experts) {
                let expected = format!("{experts}, one for each expert");
                return refuse(&key, format!("{} widths", row.len()), expected);
            }
            if let Some(odd) = row.iter().find(|bits| !(1..=BITS_MAX).contains(*bits)) {
                return refuse(&key, odd.to_string(), format!("1 to {BITS_MAX} bits"));
            }
        }
        match self.stored_bits {
            Some(bits) if !(1..=BITS_MAX).contains(&bits) => {
                refuse("stored_bits", bits.to_string(), format!("1 to {BITS_MAX} bits"))
            }
            None if !self.bits.is_empty() => {
                let expected = "the bits that `expert_bytes` are bytes of".to_owned();
                refuse("stored_bits", "null beside `bits`".to_owned(), expected)
            }
            _ => Ok(()),
        }
    }

    fn check_slots(&self) -> Result<()> {
        let free = |row: &Vec<ExpertId>| usize::from(self.experts) - row.len();
        let useless = |key: &str, count: u32, free: usize| {
            let expected = format!("at most {free}, the experts that are not pinned");
            refuse(key, format!("{count} slots"), expected)
        };
        match &self.slots {
            Slots::PerLayer(slots) => {
                if slots.len() != self.layers.len() {
                    let expected = format!("{}, one for each of `layers`", self.layers.len());
                    return refuse("slots", format!("{} layers", slots.len()), expected);
                }
                let rows = slots.iter().zip(self.pinned.iter().map(free)).enumerate();
                for (layer, (&count, free)) in rows {
                    if count as usize > free {
                        return useless(&format!("slots.per_layer[{layer}]"), count, free);
                    }
                }
                Ok(())
            }
            Slots::Global(count) => {
                let free = self.pinned.iter().map(free).sum();
                if *count as usize > free {
                    return useless("slots.global", *count, free);
                }
                Ok(())
            }
        }
    }

    fn check_figures(&self) -> Result<()> {
        let parts = [("train", Some(self.predicted.train)), ("heldout", self.predicted.heldout)];
        for (part, figures) in parts {
            for (name, figure) in figures.iter().flat_map(Figures::named) {
                if let Some(figure) = figure.filter(|figure| !figure.is_finite()) {
                    let key = format!("predicted.{part}.{name}");
                    return refuse(&key, figure.to_string(), "a finite number".to_owned());
                }
            }
        }
        let share = |share: &f64| (0.0..=1.0).contains(share);
        let heldout = self.provenance.heldout;
        if !share(&heldout) {
            return refuse("provenance.heldout", heldout.to_string(), "0 to 1".to_owned());
        }
        match self.prefetcher.accuracy.filter(|accuracy| !share(accuracy)) {
            Some(odd) => refuse("prefetcher.accuracy", odd.to_string(), "0 to 1".to_owned()),
            None => Ok(()),
        }
    }
}

fn refuse(key: &str, found: String, expected: String) -> Result<()> {
    Err(Error::Problem { place: format!("key `{key}`"), found, expected })
}
