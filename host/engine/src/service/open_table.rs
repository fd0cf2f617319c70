//! One table as a version has it open, and how the version's schema stands to
//! the committed one. What follows from that for a deployment is the host's to
//! decide.

use crate::table::View;
use replug_abi::Durability;
use std::sync::Arc;

/// A table that a version has open.
#[derive(Debug)]
pub(crate) struct OpenTable {
    pub(super) view: Arc<View>,
    pub(super) steps: Vec<(u32, u32)>,
    /// How the version wants it to be kept, from its activation on.
    pub(super) durability: Durability,
}

/// How a version's schema of a table stands to the committed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is the same, or the first.
    Same,
    /// It is later, and rows can go back.
    Later,
    /// It is later, and what it writes cannot go back.
    OneWay,
    /// It is earlier.
    Earlier,
}

impl OpenTable {
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// How the version's schema stands to the committed one.
    pub(crate) fn fit(&self) -> Fit {
        let (own, base) = (self.view.schema(), self.view.table().record().base);
        match () {
            () if base == 0 || base == own => Fit::Same,
            () if own < base => Fit::Earlier,
            () if self.goes_down_to(base) => Fit::Later,
            () => Fit::OneWay,
        }
    }

    /// Whether there may be rows of later schemas than the version's own: also
    /// where that is the committed one, after a way back that was not gone to its
    /// end.
    pub(crate) fn may_meet_newer_rows(&self) -> bool {
        let record = self.view.table().record();
        record.base != 0 && record.base.max(record.newest) > self.view.schema()
    }

    /// The oldest schema of rows that the version's steps do not bring up to its
    /// own, if there are such rows, or what serves writes them meanwhile.
    pub(crate) fn out_of_reach(&self) -> Option<u32> {
        let (own, base) = (self.view.schema(), self.view.table().record().base);
        let written = (self.fit() == Fit::Later).then_some(base);
        let schemas = self.view.table().schemas().into_iter().chain(written);
        schemas.filter(|schema| *schema < own && !self.comes_up_from(*schema)).min()
    }

    /// Whether the version can turn rows of an earlier schema into its own.
    fn comes_up_from(&self, schema: u32) -> bool {
        (schema..self.view.schema()).all(|from| self.steps.contains(&(from, from + 1)))
    }

    /// Whether the version can turn its rows into those of an earlier schema.
    pub(crate) fn goes_down_to(&self, schema: u32) -> bool {
        (schema..self.view.schema()).all(|to| self.steps.contains(&(to + 1, to)))
    }

    pub(super) fn is_committed(&self) -> bool {
        let record = self.view.table().record();
        (record.base, record.floor()) == (self.view.schema(), self.view.schema())
    }
}
