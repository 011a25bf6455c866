//! Weighted random draws in constant time: Walker's alias method, built as in M. D. Vose, "A Linear
//! Algorithm for Generating Random Numbers with a Given Distribution", IEEE Transactions on
//! Software Engineering 17(9), 1991.
//!
//! Integers throughout, so that the probabilities are exactly the shares and no rounding step of
//! the original is needed. Invariant: every column holds `sum` units, split between its own
//! candidate and one alias; over all columns a candidate has `share * columns` units.

use super::candidate::Candidate;

/// How often a draw that is not wanted is repeated before the candidates are walked one by one.
/// With half of the shares unwanted, the walk is needed once in 65,536 draws.
const MAX_REDRAWS: usize = 16;

#[derive(Debug)]
pub(super) struct AliasTable {
    columns: Box<[Column]>,
    /// Of all shares.
    sum: u64,
}

#[derive(Debug, Clone, Copy)]
struct Column {
    /// Units of the column's own candidate; the rest are the alias's.
    own: u64,
    /// Position of a candidate.
    alias: u32,
}

impl AliasTable {
    pub(super) fn build(candidates: &[Candidate]) -> AliasTable {
        let sum = candidates.iter().map(|one| u64::from(one.share)).sum();
        let count = candidates.len() as u64;
        let mut columns: Box<[Column]> = (0..)
            .zip(candidates)
            .map(|(alias, one)| Column {
                own: u64::from(one.share) * count,
                alias,
            })
            .collect();
        let (mut short, mut long): (Vec<u32>, Vec<u32>) =
            (0..columns.len() as u32).partition(|&at| columns[at as usize].own < sum);
        // A short column is filled up by a long one, which may turn short by that: each round
        // settles one column.
        while let (Some(needy), Some(&giver)) = (short.pop(), long.last()) {
            columns[needy as usize].alias = giver;
            columns[giver as usize].own -= sum - columns[needy as usize].own;
            if columns[giver as usize].own < sum {
                long.pop();
                short.push(giver);
            }
        }
        AliasTable { columns, sum }
    }

    /// Each column as one word: the part of its own candidate, of 2^32 and at most one unit off, above;
    /// the position of its alias below.
    pub(super) fn packed_columns(&self) -> impl Iterator<Item = u64> {
        let pack = |column: &Column| {
            let own = u128::from(column.own) << 32;
            // Whole columns are 1/2^32 too small, as the other half of the word is taken.
            let part = (own / u128::from(self.sum)).min(u128::from(u32::MAX)) as u64;
            part << 32 | u64::from(column.alias)
        };
        self.columns.iter().map(pack)
    }

    /// The position of a candidate, drawn by share; `None` where there are none.
    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> Option<usize> {
        if self.columns.is_empty() {
            return None;
        }
        let at = random.usize(..self.columns.len());
        let column = self.columns[at];
        let is_own = random.u64(..self.sum) < column.own;
        Some(if is_own { at } else { column.alias as usize })
    }

    /// As [`draw`](Self::draw), among those candidates only that are `wanted`, in proportion to
    /// their shares; `None` where none is wanted. `candidates` are those it was built from.
    pub(super) fn draw_wanted(
        &self,
        candidates: &[Candidate],
        wanted: impl Fn(&Candidate) -> bool,
        random: &mut fastrand::Rng,
    ) -> Option<usize> {
        for _ in 0..MAX_REDRAWS {
            let at = self.draw(random)?;
            if wanted(&candidates[at]) {
                return Some(at);
            }
        }
        let is_wanted = |(_, one): &(usize, &Candidate)| wanted(one);
        let wanted_ones = || candidates.iter().enumerate().filter(is_wanted);
        let sum: u64 = wanted_ones().map(|(_, one)| u64::from(one.share)).sum();
        if sum == 0 {
            return None;
        }
        let mut left = random.u64(..sum);
        for (at, one) in wanted_ones() {
            match left.checked_sub(u64::from(one.share)) {
                Some(less) => left = less,
                None => return Some(at),
            }
        }
        unreachable!("left began below the sum of the shares that were taken off")
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates_with_shares;
    use super::*;

    #[test]
    fn columns_hold_exactly_the_shares() {
        for shares in [
            vec![1],
            vec![10, 30],
            vec![1, 1000, 7, 7],
            (1..=500).collect(),
        ] {
            let table = AliasTable::build(&candidates_with_shares(&shares));
            let mut units = vec![0; shares.len()];
            for (at, column) in table.columns.iter().enumerate() {
                let own = column.own.min(table.sum);
                units[at] += own;
                units[column.alias as usize] += table.sum - own;
            }
            for (units, share) in units.into_iter().zip(&shares) {
                assert_eq!(units, u64::from(*share) * shares.len() as u64);
            }
        }
    }

    #[test]
    fn wanted_draws_split_by_share_also_when_walked() {
        let mut random = fastrand::Rng::with_seed(1);
        // The unwanted one takes nearly every draw, so that most draws end in the walk.
        let candidates = candidates_with_shares(&[1_000_000, 1, 3]);
        let table = AliasTable::build(&candidates);
        let mut counts = [0_u32; 3];
        for _ in 0..40_000 {
            let drawn = table.draw_wanted(&candidates, |one| one.share < 10, &mut random);
            counts[drawn.expect("two are wanted")] += 1;
        }
        assert_eq!(counts[0], 0);
        assert!((9_600..10_400).contains(&counts[1]), "{counts:?}");
        let none = table.draw_wanted(&candidates, |_| false, &mut random);
        assert_eq!(none, None);
    }
}
