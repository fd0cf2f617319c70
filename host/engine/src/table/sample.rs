//! Some rows of a table, to try on them what will be done to all.

use super::core::Table;

/// A row as it counts, without its key: it is for nobody to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleRow {
    /// The value's schema.
    pub schema: u32,
    /// The value.
    pub value: Vec<u8>,
}

impl Table {
    /// So many rows at most, with so many bytes at most, as they count now: from all over
    /// the table, since rows stand where the digest of their key says. Large ones are left
    /// out where there is no room for them.
    pub fn sample(&self, rows_max: usize, bytes_max: usize) -> Vec<SampleRow> {
        let control = self.control();
        let (mut sample, mut bytes) = (Vec::new(), 0);
        for shard in self.shards.iter() {
            for row in shard.rows() {
                let Some(parts) = control.effective(row.parts()) else { continue };
                if sample.len() >= rows_max {
                    return sample;
                }
                let len = parts.value.len();
                if bytes + len > bytes_max {
                    // A large one is not all that there are.
                    if len > bytes_max / 16 {
                        continue;
                    }
                    return sample;
                }
                bytes += len;
                sample.push(SampleRow { schema: parts.schema, value: parts.value.to_vec() });
            }
        }
        sample
    }
}
