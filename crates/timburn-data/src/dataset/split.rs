//! Stratified division of a data set, without leaks.

use std::sync::Arc;

use timburn_core::seed::Draws;
use timburn_core::{Error, Result};

use super::view::View;
use super::{DynDataset, Splits, class_map, duplicates};

/// The coordinate that sets the draws of a split apart from those of other uses of the same seed.
const SPLIT: u64 = 0x5350_4C49;

/// Two or three parts, see [`Dataset::split`](super::Dataset::split).
pub(crate) fn split(set: DynDataset, fractions: &[f64], seed: u64) -> Result<Splits> {
    if let Some(fraction) = fractions.iter().find(|fraction| !(**fraction > 0.0 && **fraction < 1.0)) {
        let expected = "fractions between 0 and 1 that leave something for every part".into();
        return Err(Error::Argument { name: "fraction", value: fraction.to_string(), expected });
    }
    let identical = duplicates::find_duplicates(set.as_ref(), |_, _| {});
    report(&set, &identical);
    let labels: Vec<usize> = (0..set.len()).map(|index| set.label(index)).collect();
    let part_of = assign(&labels, &identical, fractions, seed);
    let part = |wanted: usize| -> DynDataset {
        let indices = part_of.iter().enumerate().filter(|(_, part)| **part as usize == wanted).map(|(index, _)| index);
        Arc::new(View::of(Arc::clone(&set), indices))
    };
    Ok(Splits { train: part(0), validation: Some(part(1)), test: (fractions.len() > 2).then(|| part(2)) })
}

fn report(set: &DynDataset, identical: &[Vec<usize>]) {
    let extra: usize = identical.iter().map(|group| group.len() - 1).sum();
    if extra > 0 {
        log::warn!("{extra} of {} pictures are byte-identical to another one; they stay together", set.len());
    }
    for group in identical {
        let first = group.first().map_or(0, |&index| set.label(index));
        if group.iter().any(|&index| set.label(index) != first) {
            let members = group.iter().map(|&index| format!("{} (`{}`)", set.name(index), class_map::key(set.classes(), set.label(index))));
            log::warn!("the same picture in different classes: {}", members.collect::<Vec<_>>().join(", "));
        }
    }
}

/// The part of each sample. `identical` lists the groups that must stay together.
fn assign(labels: &[usize], identical: &[Vec<usize>], fractions: &[f64], seed: u64) -> Vec<u8> {
    let mut part_of = vec![0u8; labels.len()];
    let classes = labels.iter().max().map_or(0, |max| max + 1);
    let mut single = vec![true; labels.len()];
    let mut groups = vec![Vec::new(); classes];
    let mut fixed = vec![0usize; classes];
    for group in identical {
        group.iter().for_each(|&index| single[index] = false);
        let class = group.first().map_or(0, |&index| labels[index]);
        if group.iter().all(|&index| labels[index] == class) {
            groups[class].push(group.as_slice());
        } else {
            // A contradiction teaches little and would make a score meaningless: it stays in part 0, the training set.
            group.iter().for_each(|&index| fixed[labels[index]] += 1);
        }
    }
    let mut singles = vec![Vec::new(); classes];
    for (index, &class) in labels.iter().enumerate().filter(|(index, _)| single[*index]) {
        singles[class].push(index);
    }
    for (class, (mut singles, mut groups)) in singles.into_iter().zip(groups).enumerate() {
        let mut draws = Draws::new(seed, &[SPLIT, class as u64]);
        let count = singles.len() + fixed[class] + groups.iter().map(|group| group.len()).sum::<usize>();
        let mut room: Vec<isize> = targets(count, fractions).into_iter().map(|target| target as isize).collect();
        room[0] -= fixed[class] as isize;
        draws.shuffle(&mut groups);
        for group in groups {
            let drawn = pick(fractions, draws.unit());
            let part = if room[drawn] >= group.len() as isize { drawn } else { widest(&room) };
            room[part] -= group.len() as isize;
            group.iter().for_each(|&index| part_of[index] = part as u8);
        }
        draws.shuffle(&mut singles);
        for index in singles {
            // Part by part while there is room, so that a part too full with groups is made up for by the others.
            let part = room.iter().position(|&room| room > 0).unwrap_or(0);
            room[part] -= 1;
            part_of[index] = part as u8;
        }
    }
    part_of
}

/// How many of `count` belong to each part: cumulative shares rounded, so each is within 1 of its own; none empty while there is enough.
fn targets(count: usize, fractions: &[f64]) -> Vec<usize> {
    let mut share = 0.0;
    let mut done = 0;
    let mut targets = Vec::with_capacity(fractions.len());
    for (part, fraction) in fractions.iter().enumerate() {
        share += fraction;
        let until = if part + 1 == fractions.len() { count } else { ((share * count as f64).round() as usize).clamp(done, count) };
        targets.push(until - done);
        done = until;
    }
    while let Some(empty) = targets.iter().position(|&target| target == 0).filter(|_| count >= fractions.len()) {
        let largest = (0..targets.len()).max_by_key(|&part| (targets[part], std::cmp::Reverse(part))).unwrap_or(0);
        targets[largest] -= 1;
        targets[empty] += 1;
    }
    if count > 0 && targets.first() == Some(&0) {
        // Too few for every part: the training set comes first.
        let last = (0..targets.len()).rev().find(|&part| targets[part] > 0).unwrap_or(0);
        targets[last] -= 1;
        targets[0] += 1;
    }
    targets
}

fn pick(fractions: &[f64], unit: f64) -> usize {
    let mut share = 0.0;
    let ends = fractions.iter().map(|fraction| {
        share += fraction;
        share
    });
    ends.enumerate().find(|(_, end)| unit < *end).map_or(fractions.len() - 1, |(part, _)| part)
}

fn widest(room: &[isize]) -> usize {
    (0..room.len()).max_by_key(|&part| (room[part], std::cmp::Reverse(part))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random class sizes, duplicates within and across classes: everything a split promises.
    #[test]
    fn splits_keep_their_promises() {
        for case in 0..400u64 {
            let mut draws = Draws::new(case, &[]);
            let classes = 1 + draws.below(6);
            let labels: Vec<usize> = (0..draws.below(120)).map(|_| draws.below(classes)).collect();
            let mut free: Vec<usize> = (0..labels.len()).collect();
            draws.shuffle(&mut free);
            let mut identical = Vec::new();
            let duplicates = case % 3 > 0;
            while duplicates && free.len() > 4 && identical.len() < 6 {
                let class = draws.below(classes);
                let across = case % 3 == 2;
                let fits = |index: &usize| across || labels[*index] == class;
                let mut group: Vec<usize> = free.iter().copied().filter(fits).take(2 + draws.below(3)).collect();
                if group.len() < 2 {
                    break;
                }
                free.retain(|index| !group.contains(index));
                group.sort_unstable();
                identical.push(group);
            }
            let train = 0.05 + 0.9 * draws.unit();
            for fractions in [vec![train, 1.0 - train], vec![train, (1.0 - train) * 0.4, (1.0 - train) * 0.6]] {
                let parts = assign(&labels, &identical, &fractions, case);
                assert_eq!(parts, assign(&labels, &identical, &fractions, case), "stable");
                assert!(parts.iter().all(|&part| (part as usize) < fractions.len()));
                for group in &identical {
                    assert!(group.iter().all(|&index| parts[index] == parts[group[0]]), "case {case}: {group:?} torn apart");
                }
                let slack = identical.iter().map(Vec::len).max().unwrap_or(0);
                for class in 0..classes {
                    let count = labels.iter().filter(|&&label| label == class).count();
                    let across = identical.iter().flatten().filter(|&&index| labels[index] == class).count();
                    for (part, fraction) in fractions.iter().enumerate() {
                        let found = (0..labels.len()).filter(|&i| labels[i] == class && parts[i] as usize == part).count();
                        let off = (found as f64 - fraction * count as f64).abs();
                        // Three parts of a class of five may have to give one each.
                        let tolerance =
                            if count < 2 * fractions.len() { fractions.len() as f64 } else { 1.0 + (fractions.len() - 2) as f64 };
                        let tolerance = if case % 3 == 2 { tolerance + across as f64 } else { tolerance + slack as f64 };
                        assert!(off <= tolerance + 1e-9, "case {case}, class {class}: {found} of {count} in part {part} of {fractions:?}");
                        if !duplicates && count >= fractions.len() {
                            assert!(found > 0, "case {case}: part {part} has none of class {class}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_fifth_is_a_fifth_and_another_seed_another_draw() {
        let labels: Vec<usize> = (0..1000).map(|index| index % 4).collect();
        let parts = assign(&labels, &[], &[0.8, 0.2], 1);
        for class in 0..4 {
            assert_eq!((0..1000).filter(|&i| labels[i] == class && parts[i] == 1).count(), 50);
        }
        let other = assign(&labels, &[], &[0.8, 0.2], 2);
        let both = parts.iter().zip(&other).filter(|(a, b)| **a == 1 && **b == 1).count();
        assert!((15..70).contains(&both), "{both} of 200 in common; 40 by chance");
    }

    #[test]
    fn targets_are_rounded_shares() {
        assert_eq!(targets(10, &[0.8, 0.2]), [8, 2]);
        assert_eq!(targets(1, &[0.2, 0.8]), [1, 0]);
        assert_eq!(targets(2, &[0.99, 0.01]), [1, 1]);
        assert_eq!(targets(3, &[0.98, 0.01, 0.01]), [1, 1, 1]);
        assert_eq!(targets(0, &[0.5, 0.5]), [0, 0]);
    }
}
