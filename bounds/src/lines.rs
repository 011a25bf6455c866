//! A limit on the log lines of one kind that strangers can cause: some a second, then one line with
//! the number left out.

/// How many lines of one kind are written in a second.
pub const LINES_A_SECOND: u32 = 10;

const SECOND_MS: u64 = 1_000;

/// What becomes of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Write,
    /// Write it after a summary line: this number of earlier lines was left out.
    WriteAfter(u64),
    LeaveOut,
}

/// The lines of one kind. A second begins with a line, so that there is nothing to do while none come.
///
/// ```
/// use bounds::{LineLimit, Verdict};
///
/// let mut limit = LineLimit::new(1);
/// assert_eq!(limit.line(0), Verdict::Write);
/// assert_eq!(limit.line(10), Verdict::LeaveOut);
/// assert_eq!(limit.sum_up(999), None);
/// assert_eq!(limit.sum_up(1_000), Some(1));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineLimit {
    lines_a_second: u32,
    /// Lines of the current second.
    began_at_ms: Option<u64>,
    written: u32,
    left_out: u64,
}

impl Default for LineLimit {
    fn default() -> LineLimit {
        LineLimit::new(LINES_A_SECOND)
    }
}

impl LineLimit {
    pub const fn new(lines_a_second: u32) -> LineLimit {
        LineLimit {
            lines_a_second,
            began_at_ms: None,
            written: 0,
            left_out: 0,
        }
    }

    /// A line wants to be written at `now_ms`, on a monotonic clock.
    pub fn line(&mut self, now_ms: u64) -> Verdict {
        let left_out = self.sum_up(now_ms);
        if self.began_at_ms.is_none() {
            self.began_at_ms = Some(now_ms);
        }
        if self.written >= self.lines_a_second {
            self.left_out += 1;
            return Verdict::LeaveOut;
        }
        self.written += 1;
        left_out.map_or(Verdict::Write, Verdict::WriteAfter)
    }

    /// Ends a second that is over. Returns how many of its lines were left out, if any, to be written as
    /// one line. Call it now and then, so that the last second of a flood is reported too.
    pub fn sum_up(&mut self, now_ms: u64) -> Option<u64> {
        let began_at_ms = self.began_at_ms?;
        if now_ms.saturating_sub(began_at_ms) < SECOND_MS {
            return None;
        }
        let left_out = self.left_out;
        *self = LineLimit::new(self.lines_a_second);
        (left_out > 0).then_some(left_out)
    }

    /// When a summary is due, if lines have been left out: the time to sleep until.
    pub fn due_at_ms(&self) -> Option<u64> {
        let began_at_ms = self.began_at_ms.filter(|_| self.left_out > 0)?;
        Some(began_at_ms + SECOND_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines written, those left out as the summaries tell it, and the summaries of a history of
    /// lines, at these milliseconds.
    fn play(times_ms: impl IntoIterator<Item = u64>) -> (u64, u64, u64) {
        let mut limit = LineLimit::default();
        let (mut written, mut told, mut summaries, mut last_ms) = (0, 0, 0, 0);
        for now_ms in times_ms {
            last_ms = now_ms;
            match limit.line(now_ms) {
                Verdict::Write => written += 1,
                Verdict::WriteAfter(left_out) => {
                    assert!(left_out > 0, "a summary of nothing");
                    (written, told, summaries) = (written + 1, told + left_out, summaries + 1);
                }
                Verdict::LeaveOut => {}
            }
        }
        if let Some(left_out) = limit.sum_up(last_ms + SECOND_MS) {
            (told, summaries) = (told + left_out, summaries + 1);
        }
        (written, told, summaries)
    }

    #[test]
    fn few_lines_are_all_written_and_of_a_flood_ten_a_second_and_the_number_of_the_rest() {
        // (history, written, left out, summaries)
        let table: [(Vec<u64>, (u64, u64, u64)); 7] = [
            (vec![], (0, 0, 0)),
            (vec![7], (1, 0, 0)),
            ((0..10).collect(), (10, 0, 0)),
            ((0..11).collect(), (10, 1, 1)),
            // Ten seconds of a line each millisecond.
            ((0..10_000).collect(), (100, 9_900, 10)),
            // Ten a second, for ever.
            ((0..1_000).map(|n| n * 100).collect(), (1_000, 0, 0)),
            // A second begins with its first line, however long it was quiet before.
            (vec![0, 86_400_500, 86_401_499], (3, 0, 0)),
        ];
        for (times_ms, expected) in table {
            let (first, count) = (times_ms.first().copied(), times_ms.len());
            assert_eq!(play(times_ms), expected, "{count} lines from {first:?}");
        }
    }

    #[test]
    fn the_end_of_a_flood_is_told_once_and_no_second_before_it_is_over() {
        let mut limit = LineLimit::new(2);
        assert_eq!(limit.due_at_ms(), None);
        for now_ms in 5..=9 {
            limit.line(now_ms);
        }
        assert_eq!(limit.due_at_ms(), Some(1_005));
        assert_eq!(limit.sum_up(1_004), None);
        assert_eq!(limit.sum_up(1_005), Some(3));
        assert_eq!((limit.sum_up(9_999), limit.due_at_ms()), (None, None));
        assert_eq!(limit.line(9_999), Verdict::Write);
    }

    #[test]
    fn a_clock_that_goes_back_neither_panics_nor_opens_the_door() {
        let mut limit = LineLimit::new(1);
        assert_eq!(limit.line(10_000), Verdict::Write);
        assert_eq!(limit.line(0), Verdict::LeaveOut);
        assert_eq!(limit.line(u64::MAX), Verdict::WriteAfter(1));
        assert_eq!(limit.due_at_ms(), None);
    }
}
