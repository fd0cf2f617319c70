//! Which rows of a table count, and for whom: the committed schema, the
//! versions at work, and what was written in vain.
//!
//! A rollback or a commit changes this small record and no row: it costs the
//! same however many rows there are. The record is a value that is replaced as
//! a whole; it knows no locks, and the bytes of a row mean nothing to it.

use crate::table::row::RowRef;

/// The part of the control that outlives the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The schema of the committed version; 0 before the first. Versions of a
    /// later schema leave images in this one.
    pub base: u32,
    /// The earlier schema that is being gone back to; 0 for none. Images are left
    /// in this one meanwhile, and a commit is the end of it.
    pub downgrade_to: u32,
    /// The last generation that was given.
    pub generation: u32,
    /// No row has a later schema.
    pub newest: u32,
    /// Values that do not count.
    pub voids: Vec<Void>,
    /// The journal was attached to a table with rows, and has not been told all
    /// of them yet: those that it was not told do not outlive the process.
    pub partial: bool,
}

/// Values that do not count: those that versions of these generations wrote in
/// a schema above this one. Their images do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Void {
    /// The first generation.
    pub first: u32,
    /// The last generation.
    pub last: u32,
    /// Schemas above this one.
    pub above: u32,
}

impl Record {
    /// Whether a version of this schema is committed, and nothing counts that was
    /// written in a later one up to this generation.
    pub(crate) fn is_committed(&self, schema: u32, generation: u32) -> bool {
        let void = Void { first: 1, last: generation, above: schema };
        let is_void = || self.newest <= schema || self.voids.iter().any(|known| known.covers(&void));
        self.base == schema && self.downgrade_to == 0 && is_void()
    }

    /// The schema that every row can be read in: that of the committed version,
    /// or the one that is being gone back to. 0 before the first commit.
    pub fn floor(&self) -> u32 {
        if self.downgrade_to == 0 { self.base } else { self.base.min(self.downgrade_to) }
    }
}

impl Void {
    fn meets(&self, schema: u32, generation: u32) -> bool {
        schema > self.above && (self.first..=self.last).contains(&generation)
    }

    fn covers(&self, other: &Void) -> bool {
        self.above <= other.above && self.first <= other.first && other.last <= self.last
    }
}

/// Limits of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows at most.
    pub rows_max: u64,
    /// Bytes at most: those of keys and values, and
    /// [`ROW_OVERHEAD_BYTES`](super::ROW_OVERHEAD_BYTES) for each row. Images that
    /// a version leaves until it is committed come on top, about as much as the
    /// values of the rows that it writes.
    pub bytes_max: u64,
}

impl Limits {
    /// As much as fits into memory.
    pub const NONE: Limits = Limits { rows_max: u64::MAX, bytes_max: u64::MAX };

    /// What both allow.
    pub fn and(self, other: Limits) -> Limits {
        Limits { rows_max: self.rows_max.min(other.rows_max), bytes_max: self.bytes_max.min(other.bytes_max) }
    }
}

/// The whole control: the record, and what ends with the process.
#[derive(Debug, Clone)]
pub(super) struct Control {
    pub(super) record: Record,
    pub(super) limits: Limits,
    writers: Vec<Writer>,
}

/// A version that may write.
#[derive(Debug, Clone, Copy)]
struct Writer {
    schema: u32,
    generation: u32,
}

impl Control {
    pub(super) fn new(record: Record, limits: Limits) -> Self {
        Control { record, limits, writers: Vec::new() }
    }

    /// Lets a version write, under a generation of its own.
    pub(super) fn begin(&mut self, schema: u32) -> u32 {
        self.record.generation += 1;
        self.record.newest = self.record.newest.max(schema);
        let generation = self.record.generation;
        self.writers.push(Writer { schema, generation });
        generation
    }

    /// A version writes no more.
    pub(super) fn end(&mut self, generation: u32) {
        self.writers.retain(|writer| writer.generation != generation);
    }

    pub(super) fn is_writer(&self, generation: u32) -> bool {
        self.writers.iter().any(|writer| writer.generation == generation)
    }

    /// This schema is what there is; what was written in a later one is void.
    pub(super) fn commit(&mut self, schema: u32) {
        (self.record.base, self.record.downgrade_to) = (schema, 0);
        self.void(Void { first: 1, last: self.record.generation, above: schema });
    }

    /// What this generation wrote above the schema `to` is void, and what it
    /// still writes; with `to` 0 all that it wrote is.
    pub(super) fn roll_back(&mut self, generation: u32, to: u32) {
        // Who was never let write has no generation.
        if generation != 0 {
            self.void(Void { first: generation, last: generation, above: to });
        }
    }

    fn void(&mut self, mut void: Void) {
        if self.record.newest <= void.above {
            return;
        }
        self.record.voids.retain(|known| {
            let joins =
                known.above == void.above && known.first <= void.last + 1 && void.first <= known.last + 1;
            if joins {
                (void.first, void.last) = (void.first.min(known.first), void.last.max(known.last));
            }
            !joins && !void.covers(known)
        });
        self.record.voids.push(void);
    }

    /// Forgets void values after a pass over the table that left none, and in
    /// which no row had a schema later than `newest`.
    pub(super) fn forget_voids(&mut self, newest: u32) {
        self.record.voids.clear();
        let writers = self.writers.iter().map(|writer| writer.schema);
        self.record.newest = writers.fold(self.record.base.max(newest), u32::max);
    }

    /// Whether what a version at work writes is void.
    pub(super) fn has_void_writers(&self) -> bool {
        self.writers.iter().any(|writer| self.is_void(writer.schema, writer.generation))
    }

    /// Whether a version at work writes something that is void, and was not `before`: its
    /// values, or their images.
    pub(super) fn voids_writers(&self, before: &Control) -> bool {
        self.writers.iter().any(|Writer { schema, generation }| {
            let image = |control: &Control| control.image_schema(*schema, *generation);
            self.is_void(*schema, *generation)
                && (!before.is_void(*schema, *generation) || image(self) != image(before))
        })
    }

    /// Whether a version at work writes rows of a schema before this one: an
    /// older one, or one of whose writes only the images count.
    pub(super) fn has_writers_before(&self, schema: u32) -> bool {
        self.writers.iter().any(|writer| {
            let void = self.is_void(writer.schema, writer.generation);
            let image = || self.image_schema(writer.schema, writer.generation);
            schema > if void { image() } else { writer.schema }
        })
    }

    /// Whether a value of this schema does not count if this generation wrote it.
    pub(super) fn is_void(&self, schema: u32, generation: u32) -> bool {
        self.record.voids.iter().any(|void| void.meets(schema, generation))
    }

    /// The row as it counts: as it is, or its image alone, or not at all.
    pub(super) fn effective<'a>(&self, row: RowRef<'a>) -> Option<RowRef<'a>> {
        if !self.is_void(row.schema, row.generation) {
            return Some(row);
        }
        let image = row.image.filter(|image| !self.is_void(image.schema, row.generation))?;
        Some(row.fall_back(image))
    }

    /// The schema that an image of what this writer writes has to have; 0 for
    /// none.
    ///
    /// A writer whose values are void needs one however the committed schema
    /// has moved since: its image is all that is left of its last writes.
    pub(super) fn image_schema(&self, schema: u32, generation: u32) -> u32 {
        let floor = Some(self.record.floor()).filter(|floor| *floor != 0);
        let voids = self.record.voids.iter().filter(|void| void.meets(schema, generation));
        let lowest = voids.map(|void| void.above).chain(floor).min();
        lowest.filter(|lowest| schema > *lowest).unwrap_or(0)
    }

    /// Whether going back to the [floor](Record::floor) would lose something of
    /// this row, which counts.
    pub(super) fn would_lose(&self, row: &RowRef<'_>) -> bool {
        self.record.base != 0 && row.schema > self.record.floor() && !self.has_way_back(row)
    }

    /// Whether the row has an image that says what its value says, in the schema
    /// of the [floor](Record::floor): one in an older schema may lack what the
    /// versions between have added.
    pub(super) fn has_way_back(&self, row: &RowRef<'_>) -> bool {
        row.image.is_some_and(|image| image.fresh && image.schema == self.record.floor())
    }

    /// Whether the row's image is of no use, since whoever may be gone back to
    /// reads the value.
    pub(super) fn has_spare_image(&self, row: &RowRef<'_>) -> bool {
        row.image.is_some() && row.schema <= self.record.floor()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::row::Image;

    fn control(base: u32) -> Control {
        Control::new(Record { base, ..Record::default() }, Limits::NONE)
    }

    fn row(schema: u32, generation: u32, image: u32) -> RowRef<'static> {
        let image = (image != 0).then_some(Image { schema: image, bytes: b"image", fresh: true });
        RowRef { key: b"k", value: b"value", schema, generation, revision: 1, image }
    }

    #[test]
    fn the_first_version_needs_no_images_and_a_later_one_does_until_it_is_committed() {
        let mut control = control(0);
        let first = control.begin(1);
        assert_eq!(control.image_schema(1, first), 0);
        control.commit(1);
        let second = control.begin(2);
        assert_eq!((control.image_schema(1, first), control.image_schema(2, second)), (0, 1));
        control.commit(2);
        assert_eq!((control.image_schema(1, first), control.image_schema(2, second)), (0, 0));
        assert_eq!(control.record.voids, [], "no row is later than the committed schema");
    }

    #[test]
    fn what_a_rolled_back_version_writes_counts_as_its_image_whatever_is_committed_next() {
        let mut control = control(1);
        let failed = control.begin(2);
        control.roll_back(failed, 1);
        let again = control.begin(2);
        control.commit(2);
        let late = row(2, failed, 1);
        assert_eq!(control.effective(late).map(|row| (row.schema, row.value)), Some((1, &b"image"[..])));
        assert_eq!(control.effective(row(2, failed, 0)), None);
        assert_eq!(control.effective(row(2, again, 0)), Some(row(2, again, 0)));
        assert_eq!((control.image_schema(2, failed), control.image_schema(2, again)), (1, 0));
        assert!(control.has_void_writers());
        control.end(failed);
        assert!(!control.has_void_writers());
    }

    #[test]
    fn void_values_in_a_row_are_kept_as_one_rule_and_a_commit_takes_up_the_ones_before() {
        let mut control = control(1);
        for _ in 0..3 {
            let failed = control.begin(2);
            control.end(failed);
            control.roll_back(failed, 1);
        }
        assert_eq!(control.record.voids, [Void { first: 1, last: 3, above: 1 }]);
        let third = control.begin(3);
        control.commit(2);
        assert_eq!(
            control.record.voids,
            [Void { first: 1, last: 3, above: 1 }, Void { first: 1, last: 4, above: 2 }]
        );
        assert_eq!(control.image_schema(3, third), 2);
        control.commit(1);
        assert_eq!(control.record.voids, [Void { first: 1, last: 4, above: 1 }]);
        control.forget_voids(1);
        assert_eq!((control.record.voids.len(), control.record.newest), (0, 3), "version 3 is at work");
    }

    #[test]
    fn a_commit_is_seen_in_the_record_also_where_its_schema_was_the_committed_one() {
        let mut control = control(2);
        let serving = control.begin(3);
        assert!(!control.record.is_committed(2, serving), "rows of 3 count");
        let before = control.clone();
        control.begin(2);
        control.commit(2);
        assert!(control.record.is_committed(2, serving));
        control.record.downgrade_to = 1;
        assert!(!control.record.is_committed(2, serving) && !control.record.is_committed(3, serving));
        control = before;
        control.commit(3);
        assert!(control.record.is_committed(3, serving) && !control.record.is_committed(2, serving));
    }

    #[test]
    fn what_a_commit_voids_anew_of_versions_at_work_is_told_from_what_was_void() {
        let mut control = control(2);
        let serving = control.begin(3);
        let committed = |before: &Control, schema| {
            let mut control = before.clone();
            control.commit(schema);
            control.voids_writers(before)
        };
        assert!(!committed(&control, 3) && committed(&control, 2) && committed(&control, 1));
        control.roll_back(serving, 2);
        assert!(!committed(&control, 3) && !committed(&control, 2), "its values are void already");
        assert!(committed(&control, 1), "and now the images that it leaves");
        control.end(serving);
        assert!(!committed(&control, 1), "it writes no more");
    }

    #[test]
    fn an_image_that_is_void_itself_does_not_count_either() {
        let mut control = control(2);
        let failed = control.begin(3);
        control.roll_back(failed, 2);
        control.commit(1);
        assert_eq!(control.effective(row(3, failed, 2)), None);
        assert_eq!(control.effective(row(3, failed, 1)).map(|row| row.schema), Some(1));
    }
}
