//! Layouts as typed on the command line, and wider ones where weights do not fit.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use moecast_sim::serving::file::{LayoutFile, ServiceFile};

use crate::serve;

/// How much wider layouts are tried.
const FACTORS: [u16; 5] = [2, 4, 8, 16, 32];

/// `tp8dp2ep16pp1`, any part of it.
pub(super) fn parse(text: &str) -> Result<LayoutFile> {
    let wrong = || format!("--layout: `{text}`; expected parts such as tp8, dp2, ep16 and pp2");
    let mut layout = LayoutFile::default();
    let mut rest = text.trim();
    ensure!(!rest.is_empty(), wrong());
    while !rest.is_empty() {
        let (name, figures) = rest.split_at_checked(2).with_context(wrong)?;
        let end = figures.find(|c: char| !c.is_ascii_digit()).unwrap_or(figures.len());
        let ranks: u16 = figures[..end].parse().ok().with_context(wrong)?;
        let slot = match name.to_ascii_lowercase().as_str() {
            "tp" => &mut layout.tensor,
            "dp" => &mut layout.data,
            "ep" => &mut layout.expert,
            "pp" => &mut layout.pipeline,
            _ => return Err(anyhow::anyhow!(wrong())),
        };
        ensure!(slot.replace(ranks).is_none(), wrong());
        rest = &figures[end..];
    }
    Ok(layout)
}

/// Whether `error` says that weights leave no room.
pub(super) fn is_too_small(error: &anyhow::Error) -> bool {
    let of_sim = error.chain().find_map(|cause| cause.downcast_ref::<moecast_sim::Error>());
    matches!(of_sim, Some(moecast_sim::Error::Scenario { place, .. }) if place == "memory")
}

/// The narrowest of the layouts that are 2, 4, ... times as wide as that of `file` in the same
/// way, and hold the weights.
pub(super) fn that_fits(file: &ServiceFile, folder: &Path, seed: u64) -> Option<LayoutFile> {
    let typed = file.layout.resolve();
    FACTORS.into_iter().find_map(|factor| {
        let wider = |ranks: u16| ranks.checked_mul(factor);
        let mut layout = LayoutFile { pipeline: Some(typed.pipeline), ..LayoutFile::from(typed) };
        layout.expert_tensor = None;
        if typed.data > 1 {
            layout.data = Some(wider(typed.data)?);
        } else {
            layout.tensor = Some(wider(typed.tensor)?);
        }
        if typed.expert > 1 {
            layout.expert = Some(wider(typed.expert)?);
        }
        let file = ServiceFile { layout, ..file.clone() };
        serve::load(file, folder, seed).is_ok().then_some(layout)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_layout_come_in_any_order() {
        let layout = parse("ep16TP2dp8").unwrap();
        assert_eq!((layout.tensor, layout.data, layout.expert), (Some(2), Some(8), Some(16)));
        assert_eq!(layout.pipeline, None);
        for wrong in ["", "tp", "tp8x", "8tp", "tp8tp8", "tp99999", "é8", "tp-1"] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("expected parts such as tp8"), "{error}");
        }
    }
}
