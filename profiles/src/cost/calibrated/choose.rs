//! Which of a profile's tables answers for which kernel of a model.
//!
//! A variant must have the model's data type; among those, one that measured the very shape is
//! preferred, then the one with most samples. Every choice is written down.

use super::attention_shape;
use crate::cost::{Known, Setting};
use crate::engine::Backend;
use crate::model::{Attention, DataType, ModelShape};
use crate::profile::{Curve, ExpertTimer, Profile, Surface};
use crate::sample::Family;
use crate::table::{Source, Table};

/// Matrices of a gated expert.
const GATED: u32 = 3;
/// Rows of an expert that keep any GPU at full speed.
const FULL_ROWS: u32 = 8_192;

/// A kernel over cached tokens.
pub(super) struct Context {
    pub(super) surface: Surface,
    /// Whether its times hold the projections around it.
    pub(super) whole: bool,
}

impl Context {
    fn alone(surface: Option<Surface>) -> Option<Self> {
        surface.map(|surface| Self { surface, whole: false })
    }
}

pub(super) struct Chooser<'a> {
    profile: &'a Profile,
    model: &'a ModelShape,
    pub(super) known: Vec<Known>,
}

/// The names that tables give to weights of `data_type`, best first.
fn names(data_type: DataType) -> &'static [&'static str] {
    match data_type {
        DataType::Bf16 => &["bfloat16", "float16"],
        DataType::Fp8 => &["fp8_block", "fp8"],
        DataType::Mxfp4 => &["w4a16_mxfp4", "w4a8_mxfp4_mxfp8", "mxfp4"],
        DataType::Int4 => &["int4_wo"],
    }
}

impl<'a> Chooser<'a> {
    pub(super) fn new(profile: &'a Profile, model: &'a ModelShape) -> Self {
        Self { profile, model, known: Vec::new() }
    }

    /// The best table of `family` for `shape` whose types begin with one of `types`.
    fn table(&self, family: Family, types: &[&str], shape: &[u32]) -> Option<&'a Table> {
        let variants = self.profile.variants(family);
        for wanted in types {
            let fits = |variant: &&&str| {
                let own = variant.split_once('/').map_or("", |(_, types)| types);
                own == *wanted || own.starts_with(&format!("{wanted}/"))
            };
            let holding: Vec<&Table> = variants
                .iter()
                .filter(fits)
                .filter_map(|variant| self.profile.table(family, variant, shape))
                .collect();
            let exact = holding.iter().find(|table| table.position(shape).is_some());
            if let Some(found) = exact.or(holding.first()) {
                return Some(found);
            }
        }
        None
    }

    /// The table of one expert kernel.
    fn kernel(&self, kernel: &str, types: &[&str], shape: &[u32]) -> Option<&'a Table> {
        types.iter().find_map(|own| {
            self.profile.table(Family::ExpertGemm, &format!("{kernel}/{own}"), shape)
        })
    }

    fn note(&mut self, kernel: &str, by: Option<&Table>, source: Source, error: f64) {
        let by = by.map_or_else(
            || "roofline: the profile has no such table".to_owned(),
            |table| match table.captured_start() {
                Some(_) => format!("table {}, its launches left out", table.variant),
                None => format!("table {}", table.variant),
            },
        );
        let known = Known { kernel: kernel.to_owned(), by, source, error };
        if !self.known.contains(&known) {
            self.known.push(known);
        }
    }

    pub(super) fn experts(&mut self, setting: &Setting) -> Option<ExpertTimer> {
        let (model, shape) = (self.model, self.expert_shape(setting));
        let types = names(model.expert_type);
        // Tokens that DeepEP brings are grouped by expert already: other kernels take them over.
        let grouped = match setting.exchange {
            Some(Backend::DeepepLowLatency) => self.kernel("deepepmoe-decode", types, &shape),
            Some(Backend::DeepepNormal) => self.kernel("deepepmoe-prefill", types, &shape),
            _ => None,
        };
        let table = grouped.or_else(|| self.table(Family::ExpertGemm, types, &shape));
        let timer = table.and_then(|table| self.profile.experts(&table.variant, &shape));
        let (source, error) =
            timer.as_ref().map_or((Source::Assumed, 0.3), |timer| (timer.source, timer.error));
        self.note("experts", table, source, error);
        timer
    }

    fn expert_shape(&self, setting: &Setting) -> [u32; 8] {
        let model = self.model;
        [
            model.hidden,
            model.expert_inter,
            u32::from(model.top_k),
            u32::from(model.experts),
            u32::from(setting.expert_tensor_ranks.max(1)),
            u32::from(setting.expert_ranks).clamp(1, u32::from(model.experts)),
            GATED,
            0,
        ]
    }

    /// What a row takes at least, by the kernels that prompts get. Tables of DeepEP's decode end
    /// where weights still limit them: beyond, their form knows no rate of computation.
    pub(super) fn expert_row_ns(&self, setting: &Setting) -> f64 {
        if setting.exchange != Some(Backend::DeepepLowLatency) {
            return 0.0;
        }
        let shape = self.expert_shape(setting);
        let table = self.kernel("deepepmoe-prefill", names(self.model.expert_type), &shape);
        let timer = table.and_then(|table| self.profile.experts(&table.variant, &shape));
        let Some(timer) = timer else { return 0.0 };
        let slots = self.model.experts.div_ceil(setting.expert_ranks.max(1));
        let rows = vec![FULL_ROWS; usize::from(slots)];
        let all = u64::from(FULL_ROWS) * u64::from(slots);
        let tokens = all * u64::from(setting.expert_ranks) / u64::from(self.model.top_k.max(1));
        timer.time(tokens, &rows).0 as f64 / all as f64
    }

    /// A dense product with weights `[n x k]`.
    pub(super) fn gemm(
        &mut self,
        kernel: &str,
        data_type: DataType,
        n: u32,
        k: u32,
    ) -> Option<Curve> {
        let shape = [n, k];
        // 4-bit weights are for experts; the other matrices of such models are 16-bit.
        let types = match data_type {
            DataType::Mxfp4 | DataType::Int4 => DataType::Bf16,
            wide => wide,
        };
        let table = self.table(Family::Gemm, names(types), &shape);
        let curve =
            table.and_then(|table| self.profile.curve(Family::Gemm, &table.variant, &shape));
        let (source, error) =
            curve.as_ref().map_or((Source::Assumed, 0.3), |curve| (curve.source, curve.error));
        self.note(kernel, table, source, error);
        curve
    }

    /// All-reduces over `ranks` ranks: the engine's own inside a captured graph, and NCCL's.
    pub(super) fn all_reduce(&mut self, ranks: u16) -> Vec<Curve> {
        let shape = [u32::from(ranks)];
        if ranks <= 1 {
            return Vec::new();
        }
        let variants = self.profile.variants(Family::AllReduce);
        let wanted = |variant: &&str| {
            let (kernel, own) = variant.split_once('/').unwrap_or((variant, ""));
            matches!(kernel, "custom" | "custom-graph" | "nccl") && own != "int8"
        };
        let mut curves = Vec::new();
        for variant in variants.into_iter().filter(wanted) {
            if let Some(curve) = self.profile.curve(Family::AllReduce, variant, &shape) {
                let table = self.profile.table(Family::AllReduce, variant, &shape);
                self.note("all-reduce", table, curve.source, curve.error);
                curves.push(curve);
            }
        }
        if curves.is_empty() {
            self.note("all-reduce", None, Source::Assumed, 0.3);
        }
        curves
    }

    fn surface(
        &mut self,
        kernel: &str,
        family: Family,
        types: &[&str],
        shape: &[u32],
    ) -> Option<Surface> {
        let table = self.table(family, types, shape)?;
        let surface = self.profile.surface(family, &table.variant, shape)?;
        self.note(kernel, Some(table), surface.source, surface.error);
        Some(surface)
    }

    /// Kernels over the whole context of requests that generate, and of prompts.
    pub(super) fn attention(&mut self) -> [Option<Context>; 2] {
        let cache = ["bfloat16/bfloat16", "float16/float16"];
        let found = match &self.model.attention {
            attention @ Attention::Gqa { .. } => {
                let shape = attention_shape(attention, 0).expect("grouped queries");
                [("decode", Family::DecodeAttention), ("prefill", Family::PrefillAttention)].map(
                    |(kernel, family)| Context::alone(self.surface(kernel, family, &cache, &shape)),
                )
            }
            Attention::Mla { heads, .. } => self.latent([*heads]),
        };
        for (kernel, found) in ["decode", "prefill"].into_iter().zip(&found) {
            if found.is_none() {
                self.note(kernel, None, Source::Assumed, 0.3);
            }
        }
        found
    }

    /// Latent attention: whole modules, projections included, before kernels alone.
    ///
    /// SGLang's kernel table of prompts timed the absorbed form, which no engine runs on them:
    /// its modules for wide expert parallelism are the better witnesses.
    fn latent(&mut self, shape: [u32; 1]) -> [Option<Context>; 2] {
        let cache = ["bfloat16/bfloat16", "float16/float16"];
        let own = names(self.model.dense_type);
        let module = |prefix: &str| -> Vec<String> {
            own.iter().map(|own| format!("{prefix}/{own}")).collect()
        };
        let narrow = module("bfloat16/bfloat16");
        let wide: Vec<String> = [narrow.clone(), module("fp8_block/fp8")].concat();
        [
            ("decode", Family::DecodeMlaModule, Family::DecodeMla, narrow),
            ("prefill", Family::PrefillMlaModule, Family::PrefillMla, wide),
        ]
        .map(|(kernel, modules, kernels, types)| {
            let types: Vec<&str> = types.iter().map(String::as_str).collect();
            let module = self.surface(kernel, modules, &types, &shape);
            let whole = module.map(|surface| Context { surface, whole: true });
            whole.or_else(|| Context::alone(self.surface(kernel, kernels, &cache, &shape)))
        })
    }

    /// Kernels of layers with a sliding window, and their share of all layers.
    pub(super) fn windowed(&mut self) -> Option<(f64, Surface, Surface)> {
        let Attention::Gqa { window: Some(window), windowed_layers, .. } = self.model.attention
        else {
            return None;
        };
        let cache = ["bfloat16/bfloat16", "float16/float16"];
        let shape = attention_shape(&self.model.attention, window)?;
        let decode = self.surface("decode, window", Family::DecodeAttention, &cache, &shape)?;
        let prefill = self.surface("prefill, window", Family::PrefillAttention, &cache, &shape)?;
        let share = f64::from(windowed_layers) / f64::from(self.model.hidden_layers.max(1));
        Some((share, decode, prefill))
    }

    /// Products around the attention kernels; empty where a table is missing.
    pub(super) fn projections(&mut self) -> Vec<Curve> {
        let model = self.model;
        let product = |(n, k)| self.gemm("projections", model.dense_type, n, k);
        let found: Option<Vec<Curve>> = model.attention_matrices().map(product).collect();
        found.unwrap_or_default()
    }
}
