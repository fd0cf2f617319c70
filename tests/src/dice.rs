//! Numbers that look random, the same in every run: what a soak does is known
//! by its seed. Not for secrets, and not for statistics.

/// SplitMix64, of Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators".
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Those of one turn of one thread.
    pub fn new(thread: u64, turn: u64) -> Dice {
        Dice((thread << 48) ^ turn)
    }

    /// A number below `bound`; the bias is far too small to matter.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
