//! Slips of the finger.

/// The known name most like `given`, if one is so like it that it was probably meant.
pub fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // One slip (two letters swapped count as one), in long names two; more is another word.
    let slips_max = if given.chars().count() < 6 { 1 } else { 2 };
    let slips = known.into_iter().map(|name| (strsim::osa_distance(given, name), name));
    slips.filter(|(slips, _)| *slips <= slips_max).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["epochs", "lr", "hcrl_sa", "weight_decay"];
        for (given, meant) in [
            ("epoch", Some("epochs")),
            ("lrr", Some("lr")),
            ("hcrl_as", Some("hcrl_sa")),
            ("wieght_deacy", Some("weight_decay")),
            ("window", None),
            ("ls_xx", None),
        ] {
            assert_eq!(did_you_mean(given, known), meant, "{given}");
        }
    }
}
