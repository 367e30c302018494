//! What caches of experts would hit, policy by policy, at three sizes.

use super::{Entry, Kind};
use crate::StatsFile;
use crate::draw::axes::drawable;
use crate::draw::legend::{self, Item, Look};
use crate::draw::{Label, Paint, Scale, Scene, Width, digits};
use crate::stats_file::COUNTED;
use crate::tables::{Cell, Rows};

pub(super) const ENTRY: Entry = Entry {
    name: "cache-hit-rate",
    about: "hit rates of LRU, LFU, Belady and the segment cache at three cache sizes",
    caption: "One request after the other runs through a cache of experts that all layers share; \
              a hit is a pick of an expert that was there before the token came. The sizes are \
              multiples of what one token picks. LRU and LFU are what a server can run. Belady \
              knows the future and hits the most that any policy can; the segment cache (SCH) \
              keeps what the next 16 tokens use most. The dashed line is what any policy that \
              cannot see the future hits if the router picks uniformly.",
    order: 17,
    kind: Kind::Recording { title, rows, draw },
};

/// Tokens that the segment cache of the figure looks ahead; the table has every length.
const SEGMENT: u32 = 16;

/// Name in the table, words in the figure, tokens of the segment, colour.
type Policy = (&'static str, &'static str, Option<u32>, Paint);

const POLICIES: [Policy; 4] = [
    ("lru", "LRU", None, Paint::Series(3)),
    ("lfu", "LFU", None, Paint::Series(2)),
    ("sch", "SCH, knows 16 tokens", Some(SEGMENT), Paint::Series(4)),
    ("belady", "Belady, knows the future", None, Paint::Series(0)),
];

fn rate(file: &StatsFile, policy: &str, segment: Option<u32>, ratio: u32) -> Option<f64> {
    let locality = &file.stats.locality;
    match policy {
        "lru" => locality.chr.lru.get(&ratio).copied()?,
        "lfu" => locality.chr.lfu.get(&ratio).copied()?,
        "belady" => locality.chr.belady.get(&ratio).copied()?,
        _ => locality.sch.get(&ratio)?.get(&segment?).copied()?,
    }
}

/// Share of the experts that the cache holds, which is what uniform picks hit.
fn chance(file: &StatsFile, ratio: u32) -> f64 {
    let slots = f64::from(ratio) * f64::from(file.stats.top_k);
    (slots / f64::from(file.stats.experts.max(1))).min(1.0)
}

/// Cache sizes with at least one measured hit rate.
fn ratios(file: &StatsFile) -> Vec<u32> {
    let ratios = file.stats.locality.chr.lru.iter();
    ratios.filter(|(_, rate)| rate.is_some()).map(|(&ratio, _)| ratio).collect()
}

fn title(file: &StatsFile) -> Result<String, &'static str> {
    if file.stats.active_experts.is_none() {
        return Err(COUNTED);
    }
    let ratios = ratios(file);
    let ratio = ratios.iter().find(|&&ratio| ratio == 2).or(ratios.first());
    let ratio = *ratio.ok_or("nothing was picked")?;
    let hits = |policy| digits::percent(rate(file, policy, None, ratio).unwrap_or(f64::NAN));
    Ok(format!(
        "LRU with room for {ratio} × top-k hits {}; the best possible is {}, chance {}",
        hits("lru"),
        hits("belady"),
        digits::percent(chance(file, ratio))
    ))
}

fn rows(file: &StatsFile) -> Rows {
    let mut rows = Vec::new();
    for ratio in ratios(file) {
        let mut push = |policy: &str, segment: Option<u32>| {
            let Some(rate) = rate(file, policy, segment, ratio) else { return };
            let tokens = segment.map_or(Cell::Text(String::new()), |it| Cell::Count(it.into()));
            let ratio_cell = Cell::Count(ratio.into());
            rows.push(vec![policy.into(), tokens, ratio_cell, rate.into(), {
                chance(file, ratio).into()
            }]);
        };
        for policy in ["lru", "lfu", "belady"] {
            push(policy, None);
        }
        for segment in file.stats.locality.sch.get(&ratio).into_iter().flatten() {
            push("sch", Some(*segment.0));
        }
    }
    Rows {
        columns: &["policy", "segment_tokens", "cache_over_top_k", "hit_rate", "null_hit_rate"],
        rows,
    }
}

fn draw(file: &StatsFile, width: Width) -> Scene {
    const BAR: f64 = 17.0;
    let mut scene = Scene::new(width);
    let items = POLICIES.map(|(_, words, _, paint)| Item::new(Look::Box, paint, words));
    let chance_item = Item::new(Look::Dashes, Paint::Ink, "uniform router");
    let items: Vec<Item> = items.into_iter().chain([chance_item]).collect();
    let mut top = legend::draw(&mut scene, &items, 0.0) + 10.0;
    let room = Label::new(0.0, 0.0, "100.0%").width() + 10.0;
    let scale = Scale { values: (0.0, 1.0), pixels: (0.0, scene.width - room) };
    for ratio in ratios(file) {
        let slots = u64::from(ratio) * u64::from(file.stats.top_k);
        let heading = format!(
            "{ratio} × top-k: room for {slots} of {} experts per layer",
            digits::count(file.stats.experts.into())
        );
        scene.text(Label::new(0.0, top + 8.0, heading).paint(Paint::Soft).at_most(scene.width));
        top += 20.0;
        let above = top - 2.0;
        let mut marks = Vec::new();
        for (policy, _, segment, paint) in POLICIES {
            let Some(rate) = rate(file, policy, segment, ratio) else { continue };
            let end = scale.at(drawable(rate).unwrap_or(0.0));
            scene.fill([0.0, top, end.max(1.0), BAR], paint);
            marks.push((end, top + BAR / 2.0, digits::percent(rate)));
            top += BAR + 3.0;
        }
        let line = scale.at(chance(file, ratio));
        scene.dashes((line, above), (line, top), Paint::Ink);
        for (end, middle, text) in marks {
            let label = Label::new(end + 8.0, middle, text);
            // A number that the dashed line would strike through moves behind it.
            let struck = label.x - 3.0 < line && line < label.x + label.width() + 3.0;
            let x = if struck { line + 8.0 } else { label.x };
            scene.text(Label { x, ..label });
        }
        top += 13.0;
    }
    scene.height = top;
    scene
}
