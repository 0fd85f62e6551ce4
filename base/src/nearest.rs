//! The known name nearest to one that nobody knows: what every refusal of a misspelt name suggests.

/// The name of `known` with the fewest edits to `name`, if it is near enough to be meant.
///
/// ```
/// assert_eq!(base::nearest("num.partition", ["num.partitions", "durability"]), Some("num.partitions"));
/// assert_eq!(base::nearest("foo", ["num.partitions", "durability"]), None);
/// ```
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, best) = known.into_iter().map(|known| (edits(name, known), known)).min()?;
    (distance <= 2 + name.len() / 4 && distance < name.len()).then_some(best)
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_insertions_deletions_and_replacements() {
        assert_eq!((edits("abc", "abc"), edits("abc", "abx"), edits("abc", ""), edits("ab", "xaby")), (0, 1, 3, 2));
    }
}
