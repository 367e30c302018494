//! What a model shape must satisfy before anything computes with it.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{Attention, ModelShape};
use crate::{Error, Result};

/// Layers, experts, widths, heads and vocabulary entries of the largest shape that is believed.
///
/// Ten times what any published model has, and small enough that the weight bytes of a whole
/// model fit in 64 bits, so no product of a valid shape's figures overflows.
pub(super) const LAYERS_MAX: u16 = 1 << 10;
pub(super) const EXPERTS_MAX: u16 = 1 << 14;
pub(super) const WIDTH_MAX: u32 = 1 << 18;
pub(super) const HEADS_MAX: u32 = 1 << 12;
pub(super) const HEAD_DIM_MAX: u32 = 1 << 14;
pub(super) const VOCAB_MAX: u32 = 1 << 24;
pub(super) const WINDOW_MAX: u32 = 1 << 30;

impl ModelShape {
    /// Whether this shape describes a model that can exist.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the first field that cannot be right, and what would be.
    pub fn validate(&self) -> Result<()> {
        self.validate_in(&format!("model {}", self.name))
    }

    /// As [`Self::validate`], for a shape that was read from `path`.
    pub(super) fn validate_in(&self, path: &str) -> Result<()> {
        let check = Check { path };
        check.that(!self.name.is_empty(), "name", "an empty text", "a name")?;
        check.within("hidden_layers", self.hidden_layers, 1..=LAYERS_MAX)?;
        check.moe_layers(&self.moe_layers, self.hidden_layers)?;
        check.within("hidden", self.hidden, 1..=WIDTH_MAX)?;
        check.within("experts", self.experts, 1..=EXPERTS_MAX)?;
        check.within("zero_experts", self.zero_experts, 0..=EXPERTS_MAX)?;
        check.within("top_k", self.top_k, 1..=self.experts)?;
        check.within("expert_inter", self.expert_inter, 1..=WIDTH_MAX)?;
        check.within("shared_inter", self.shared_inter, 0..=WIDTH_MAX)?;
        check.within("dense_inter", self.dense_inter, self.dense_inter_range())?;
        check.within("expert_groups", self.expert_groups, 1..=self.experts)?;
        check.that(
            self.experts.is_multiple_of(self.expert_groups),
            "expert_groups",
            &format!("{} groups of {} experts", self.expert_groups, self.experts),
            "a divisor of the number of experts",
        )?;
        check.within("vocab", self.vocab, 1..=VOCAB_MAX)?;
        check.attention(&self.attention, self.hidden_layers)
    }

    /// A model with dense layers says how wide they are; one without says 0.
    fn dense_inter_range(&self) -> RangeInclusive<u32> {
        let has_dense_layers = self.distinct_moe_layers() < self.hidden_layers;
        if has_dense_layers { 1..=WIDTH_MAX } else { 0..=0 }
    }
}

/// Answers every failed check in the same form.
struct Check<'a> {
    path: &'a str,
}

impl Check<'_> {
    fn that(&self, holds: bool, key: &str, found: &str, expected: &str) -> Result<()> {
        if holds {
            return Ok(());
        }
        Err(Error::Invalid {
            path: self.path.to_owned(),
            key: key.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        })
    }

    fn within<T: Display + PartialOrd>(
        &self,
        key: &str,
        value: T,
        valid: RangeInclusive<T>,
    ) -> Result<()> {
        let expected = format!("a whole number from {} to {}", valid.start(), valid.end());
        self.that(valid.contains(&value), key, &value.to_string(), &expected)
    }

    fn moe_layers(&self, layers: &[u16], hidden_layers: u16) -> Result<()> {
        let key = "moe_layers";
        self.that(!layers.is_empty(), key, "no layer with experts", "at least one")?;
        for pair in layers.windows(2) {
            let found = format!("layer {} after layer {}", pair[1], pair[0]);
            self.that(pair[0] <= pair[1], key, &found, "layer numbers in ascending order")?;
        }
        let found = format!("{} routings", layers.len());
        let expected = format!("at most {LAYERS_MAX}, a layer counted as often as it is chained");
        self.that(layers.len() <= usize::from(LAYERS_MAX), key, &found, &expected)?;
        let last = layers[layers.len() - 1];
        let expected = format!("layer numbers below hidden_layers, {hidden_layers}");
        self.that(last < hidden_layers, key, &format!("layer {last}"), &expected)
    }

    fn attention(&self, attention: &Attention, hidden_layers: u16) -> Result<()> {
        match *attention {
            Attention::Gqa { heads, kv_heads, head_dim, window, windowed_layers } => {
                self.within("heads", heads, 1..=HEADS_MAX)?;
                self.within("kv_heads", kv_heads, 1..=heads)?;
                let found = format!("{kv_heads} for {heads} query heads");
                let divides = heads.is_multiple_of(kv_heads);
                self.that(divides, "kv_heads", &found, "a divisor of the query heads")?;
                self.within("head_dim", head_dim, 1..=HEAD_DIM_MAX)?;
                self.within("windowed_layers", windowed_layers, 0..=hidden_layers)?;
                self.window(window, windowed_layers)
            }
            Attention::Mla {
                heads,
                q_lora_rank,
                kv_lora_rank,
                nope_head_dim,
                rope_head_dim,
                v_head_dim,
            } => {
                self.within("heads", heads, 1..=HEADS_MAX)?;
                self.within("q_lora_rank", q_lora_rank, 0..=WIDTH_MAX)?;
                self.within("kv_lora_rank", kv_lora_rank, 1..=WIDTH_MAX)?;
                self.within("nope_head_dim", nope_head_dim, 1..=HEAD_DIM_MAX)?;
                self.within("rope_head_dim", rope_head_dim, 0..=HEAD_DIM_MAX)?;
                self.within("v_head_dim", v_head_dim, 1..=HEAD_DIM_MAX)
            }
        }
    }

    /// A window without layers, or layers without a window, is half a fact.
    fn window(&self, window: Option<u32>, windowed_layers: u16) -> Result<()> {
        let Some(window) = window else {
            let found = format!("{windowed_layers} without a window");
            return self.that(windowed_layers == 0, "windowed_layers", &found, "0, or a window");
        };
        self.within("window", window, 1..=WINDOW_MAX)?;
        let expected = "at least one layer with the window, or no window";
        self.that(windowed_layers > 0, "windowed_layers", "0 with a window", expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use crate::ids::MoeLayer;

    /// The answer to the preset `name` after `change`.
    fn answer(name: &str, change: fn(&mut ModelShape)) -> String {
        let mut shape = builtin::model(name).unwrap();
        change(&mut shape);
        shape.validate().unwrap_err().to_string()
    }

    #[test]
    fn a_token_cannot_choose_more_experts_than_there_are() {
        let text = answer("mixtral-8x7b", |shape| shape.top_k = 9);
        assert_eq!(text, "model mixtral-8x7b: top_k: 9; expected a whole number from 1 to 8");
    }

    #[test]
    fn layers_with_experts_ascend_and_exist() {
        let key = "model deepseek-v3: moe_layers";
        let text = answer("deepseek-v3", |shape| shape.moe_layers.swap(0, 1));
        assert_eq!(
            text,
            format!("{key}: layer 3 after layer 4; expected layer numbers in ascending order")
        );
        let text = answer("deepseek-v3", |shape| shape.moe_layers[57] = 61);
        assert_eq!(
            text,
            format!("{key}: layer 61; expected layer numbers below hidden_layers, 61")
        );
        let text = answer("deepseek-v3", |shape| shape.moe_layers.clear());
        assert_eq!(text, format!("{key}: no layer with experts; expected at least one"));
    }

    #[test]
    fn a_layer_may_chain_its_experts() {
        let mut shape = builtin::model("deepseek-v3").unwrap();
        let once = shape.moe_layers.clone();
        shape.moe_layers = once.iter().flat_map(|layer| [*layer; 2]).collect();
        shape.validate().unwrap();
        assert_eq!((shape.moe_layers.len(), shape.distinct_moe_layers()), (116, 58));
        assert_eq!([0, 1, 2].map(|at| shape.opens_layer(MoeLayer(at))), [true, false, true]);
        assert_eq!((shape.ordinal(3), shape.ordinal(4)), (Some(MoeLayer(0)), Some(MoeLayer(2))));
        assert_eq!(shape.ordinal(2), None);
        // Chained layers are not dense ones.
        shape.dense_inter = 0;
        assert!(shape.validate().is_err(), "three layers are still dense");
    }

    #[test]
    fn groups_of_experts_are_equal() {
        let text = answer("deepseek-v3", |shape| shape.expert_groups = 7);
        assert!(text.contains("expert_groups: 7 groups of 256 experts"), "{text}");
    }

    #[test]
    fn dense_layers_have_a_width_exactly_where_they_exist() {
        let text = answer("deepseek-v3", |shape| shape.dense_inter = 0);
        assert!(text.contains("dense_inter: 0; expected a whole number from 1"), "{text}");
        let text = answer("mixtral-8x7b", |shape| shape.dense_inter = 14_336);
        assert!(text.contains("dense_inter: 14336; expected a whole number from 0 to 0"), "{text}");
    }

    #[test]
    fn a_window_comes_with_its_layers() {
        let text = answer("gpt-oss-120b", |shape| {
            let Attention::Gqa { window, .. } = &mut shape.attention else { panic!("grouped") };
            *window = None;
        });
        assert!(text.contains("windowed_layers: 18 without a window"), "{text}");
    }

    #[test]
    fn sizes_that_would_overflow_are_refused() {
        for change in [
            |shape: &mut ModelShape| shape.hidden = u32::MAX,
            |shape: &mut ModelShape| shape.expert_inter = u32::MAX,
            |shape: &mut ModelShape| shape.expert_inter = 0,
            |shape: &mut ModelShape| shape.experts = u16::MAX,
            |shape: &mut ModelShape| shape.hidden_layers = u16::MAX,
            |shape: &mut ModelShape| shape.vocab = 0,
        ] {
            let text = answer("qwen3-30b-a3b", change);
            assert!(text.contains("expected a whole number from 1 to"), "{text}");
        }
    }
}
