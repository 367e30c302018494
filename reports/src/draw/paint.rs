//! Colours by meaning. Files are drawn on white; the page swaps every tone for a CSS variable, so
//! that one drawing reads on light and on dark ground.

use crate::RunFile;

/// Red, green, blue.
pub(crate) type Rgb = [u8; 3];

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Text and what must stand out.
    Ink,
    /// Text of second rank: axis titles, tick labels.
    Soft,
    /// Grid lines and cells without a value.
    Grid,
    /// What lies behind everything.
    Ground,
    /// Text on one of the parts.
    OnPart,
    /// Text on a pale level of the heat map.
    OnPale,
    /// A fact of the recording, not of a candidate.
    Recording,
    /// A candidate; the same in every figure. See [`candidate`].
    Series(usize),
    /// A part of a step.
    Part(usize),
    /// A level of the heat map, below [`HEAT_LEVELS`]; the middle one is the mean.
    Heat(u8),
}

/// Levels of the heat map: as many below the mean as above it.
pub(crate) const HEAT_LEVELS: u8 = 41;

/// A colour in both modes.
struct Tone {
    variable: &'static str,
    light: Rgb,
    dark: Rgb,
}

const fn tone(variable: &'static str, light: u32, dark: u32) -> Tone {
    Tone { variable, light: rgb(light), dark: rgb(dark) }
}

const fn rgb(hex: u32) -> Rgb {
    let [_, red, green, blue] = hex.to_be_bytes();
    [red, green, blue]
}

/// Baseline, plan, then whatever stands between them. Told apart by lightness as well as hue.
const SERIES: usize = 6;
const FIRST_SERIES: usize = 7;
/// Attention, dense, dispatch, experts, combine: mid tones that carry white text in both modes.
const PARTS: usize = 5;
const FIRST_PART: usize = FIRST_SERIES + SERIES;

const TONES: [Tone; FIRST_PART + PARTS] = [
    tone("ink", 0x1b_2430, 0xe7_eaef),
    tone("soft", 0x5a_6573, 0xa3_aebb),
    tone("grid", 0xe2_e6eb, 0x36_3f4b),
    tone("ground", 0xff_ffff, 0x14_191f),
    tone("on-part", 0xff_ffff, 0xff_ffff),
    tone("on-pale", 0x1b_2431, 0x1b_2431),
    tone("recording", 0x6a_5acd, 0xa5_9bf5),
    tone("series-baseline", 0x8b_95a1, 0x8f_9aa8),
    tone("series-plan", 0x12_62b3, 0x62_b0f7),
    tone("series-2", 0xdd_7a12, 0xf2_a24e),
    tone("series-3", 0x1a_8f6c, 0x4c_c79d),
    tone("series-4", 0x8f_4cb8, 0xc0_91ec),
    tone("series-5", 0xb8_3a70, 0xf0_86b1),
    tone("part-attention", 0x6d_62b5, 0x6d_62b5),
    tone("part-dense", 0x96_6aa8, 0x96_6aa8),
    tone("part-dispatch", 0x1b_8679, 0x1b_8679),
    tone("part-experts", 0xc4_4a5a, 0xc4_4a5a),
    tone("part-combine", 0x3f_85a5, 0x3f_85a5),
];

/// The mean, then away from it in even steps. Lightness falls on both sides, and blue against
/// orange is what people with any of the common colour blindnesses can tell apart.
const BELOW: [Rgb; 5] =
    [rgb(0xf3_f2ef), rgb(0xb9_d4ea), rgb(0x6f_a8d6), rgb(0x2d_6fb0), rgb(0x0f_3f78)];
const ABOVE: [Rgb; 5] =
    [rgb(0xf3_f2ef), rgb(0xf9_cb94), rgb(0xee_8d42), rgb(0xc4_5212), rgb(0x7a_2706)];

fn heat(level: u8) -> Rgb {
    let middle = f64::from(HEAT_LEVELS / 2);
    let away = (f64::from(level.min(HEAT_LEVELS - 1)) - middle) / middle;
    let anchors = if away < 0.0 { BELOW } else { ABOVE };
    let place = away.abs() * 4.0;
    let index = (place as usize).min(3);
    let share = place - index as f64;
    std::array::from_fn(|channel| {
        let (from, to) = (anchors[index][channel], anchors[index + 1][channel]);
        (f64::from(from) + share * (f64::from(to) - f64::from(from))).round() as u8
    })
}

impl Paint {
    fn tone(self) -> Option<usize> {
        Some(match self {
            Self::Ink => 0,
            Self::Soft => 1,
            Self::Grid => 2,
            Self::Ground => 3,
            Self::OnPart => 4,
            Self::OnPale => 5,
            Self::Recording => 6,
            Self::Series(index) => FIRST_SERIES + index % SERIES,
            Self::Part(index) => FIRST_PART + index % PARTS,
            Self::Heat(_) => return None,
        })
    }

    /// The colour on white paper.
    pub(crate) fn on_paper(self) -> Rgb {
        match (self, self.tone()) {
            (Self::Heat(level), _) => heat(level),
            (_, Some(index)) => TONES[index].light,
            (_, None) => TONES[0].light,
        }
    }

    /// A stand-in that [`variables`] recognises; heat stays as it is.
    pub(crate) fn stand_in(self) -> Rgb {
        match self.tone() {
            Some(index) => [1, 2, index as u8],
            None => self.on_paper(),
        }
    }

    /// The colour as CSS of the page says it.
    pub(crate) fn css(self) -> String {
        match self.tone() {
            Some(0) => "currentColor".to_owned(),
            Some(index) => format!("var(--{})", TONES[index].variable),
            None => hex(self.on_paper()),
        }
    }
}

fn hex([red, green, blue]: Rgb) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Stand-ins as plotters writes them, and what the page puts there.
pub(crate) fn variables() -> impl Iterator<Item = (String, String)> {
    TONES.iter().enumerate().map(|(index, tone)| {
        let css = match index {
            0 => "currentColor".to_owned(),
            _ => format!("var(--{})", tone.variable),
        };
        (hex([1, 2, index as u8]), css)
    })
}

/// The declarations of all variables, for light or dark.
pub(crate) fn declarations(dark: bool) -> String {
    TONES
        .iter()
        .map(|tone| {
            let colour = if dark { tone.dark } else { tone.light };
            format!("--{}:{};", tone.variable, hex(colour).to_lowercase())
        })
        .collect()
}

/// The colour of candidate `index`: the baseline grey, the plan blue, others in a fixed order.
pub(crate) fn candidate(run: &RunFile, index: usize) -> Paint {
    match index {
        0 => Paint::Series(0),
        _ if index + 1 == run.candidates.len() => Paint::Series(1),
        _ => Paint::Series(2 + (index - 1) % (SERIES - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lightness([red, green, blue]: Rgb) -> f64 {
        0.2126 * f64::from(red) + 0.7152 * f64::from(green) + 0.0722 * f64::from(blue)
    }

    #[test]
    fn heat_darkens_away_from_the_mean_on_both_sides() {
        let middle = HEAT_LEVELS / 2;
        for step in 0..middle {
            let away = |level: u8| lightness(heat(level));
            assert!(away(middle + step) > away(middle + step + 1), "above, step {step}");
            assert!(away(middle - step) > away(middle - step - 1), "below, step {step}");
        }
    }

    #[test]
    fn no_heat_level_is_taken_for_a_stand_in() {
        let stand_ins: Vec<String> = variables().map(|(hex, _)| hex).collect();
        for level in 0..HEAT_LEVELS {
            assert!(!stand_ins.contains(&hex(heat(level))), "level {level}");
        }
    }
}
