//! One description of a frame for both ways: the same function measures, writes and reads its
//! fields, so that the two processes cannot disagree about them.
//!
//! Little-endian numbers; texts, bytes and lists have their length before them; choices are the
//! index into their list. What is read is bounded, and is all there is: bytes that are left over
//! are a mistake.

use std::time::Duration;

/// Bytes that are no frame, or a value too large for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends before its last field.
    #[error("a frame between agent and gateway ends within a field; restart the agent")]
    Short,
    /// Something is left behind the last field.
    #[error("a frame between agent and gateway has {bytes} bytes too many; restart the agent")]
    Rest {
        /// How many.
        bytes: usize,
    },
    /// A text, list or number beyond its limit.
    #[error("a frame between agent and gateway has a field of {length}, and {most} is the most")]
    Long {
        /// What it says.
        length: usize,
        /// The limit.
        most: usize,
    },
    /// A text that is not UTF-8.
    #[error("a frame between agent and gateway has a text that is not UTF-8; restart the agent")]
    Text,
    /// A number that stands for nothing.
    #[error("a frame between agent and gateway has {number} where nothing is {number}")]
    Choice {
        /// The number.
        number: u64,
    },
}

/// Where fields go or come from.
pub enum Fields<'a> {
    /// Counts the bytes that writing would take.
    Measure(usize),
    /// Appends.
    Write(&'a mut Vec<u8>),
    /// Takes from the front.
    Read(&'a [u8]),
}

/// What a value's fields are: measures, writes or replaces them.
pub type Each<T> = fn(&mut Fields<'_>, &mut T) -> Result<(), Malformed>;

impl Fields<'_> {
    /// Whether values are replaced.
    #[must_use]
    pub fn reads(&self) -> bool {
        matches!(self, Self::Read(_))
    }

    /// Ends reading.
    ///
    /// # Errors
    /// There is more.
    pub fn end(&self) -> Result<(), Malformed> {
        match self {
            Self::Read(rest) if !rest.is_empty() => Err(Malformed::Rest { bytes: rest.len() }),
            _ => Ok(()),
        }
    }

    /// A number of eight bytes.
    ///
    /// # Errors
    /// See [`Malformed`]; so it is with all below.
    pub fn number(&mut self, value: &mut u64) -> Result<(), Malformed> {
        let mut bytes = value.to_le_bytes();
        self.exactly(&mut bytes)?;
        *value = u64::from_le_bytes(bytes);
        Ok(())
    }

    /// A number of four bytes.
    pub fn small(&mut self, value: &mut u32) -> Result<(), Malformed> {
        let mut bytes = value.to_le_bytes();
        self.exactly(&mut bytes)?;
        *value = u32::from_le_bytes(bytes);
        Ok(())
    }

    /// A number of one byte.
    pub fn byte(&mut self, value: &mut u8) -> Result<(), Malformed> {
        let mut bytes = [*value];
        self.exactly(&mut bytes)?;
        [*value] = bytes;
        Ok(())
    }

    /// Yes or no.
    pub fn flag(&mut self, value: &mut bool) -> Result<(), Malformed> {
        self.choice(value, &[false, true])
    }

    /// A number of bytes or things in memory.
    pub fn size(&mut self, value: &mut usize) -> Result<(), Malformed> {
        let mut number = u64::try_from(*value).unwrap_or(u64::MAX);
        self.number(&mut number)?;
        *value = usize::try_from(number).map_err(|_| Malformed::Choice { number })?;
        Ok(())
    }

    /// A time, to the nanosecond; at most 584 years.
    pub fn duration(&mut self, value: &mut Duration) -> Result<(), Malformed> {
        let mut nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        self.number(&mut nanos)?;
        *value = Duration::from_nanos(nanos);
        Ok(())
    }

    /// One of a list, by its place there.
    pub fn choice<T: Copy + PartialEq>(
        &mut self,
        value: &mut T,
        of: &[T],
    ) -> Result<(), Malformed> {
        let place = of.iter().position(|one| one == value).and_then(|at| u8::try_from(at).ok());
        // What is not in the list cannot be said; reading it is an error then.
        let mut place = place.unwrap_or(u8::MAX);
        self.byte(&mut place)?;
        let wrong = Malformed::Choice { number: place.into() };
        *value = *of.get(usize::from(place)).ok_or(wrong)?;
        Ok(())
    }

    /// Bytes, `most` of them.
    pub fn bytes(&mut self, value: &mut Vec<u8>, most: usize) -> Result<(), Malformed> {
        let length = self.length(value.len(), most)?;
        match self {
            Self::Measure(sum) => *sum += length,
            Self::Write(out) => out.extend_from_slice(value),
            Self::Read(rest) => {
                let (taken, left) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
                // Once, at its final size: no copy of a secret stays behind.
                *value = taken.to_vec();
                *rest = left;
            }
        }
        Ok(())
    }

    /// A text of `most` bytes.
    pub fn text(&mut self, value: &mut String, most: usize) -> Result<(), Malformed> {
        let mut bytes = std::mem::take(value).into_bytes();
        let result = self.bytes(&mut bytes, most);
        *value = String::from_utf8(bytes).map_err(|_| Malformed::Text)?;
        result
    }

    /// A value or none; `blank` is replaced when there is one.
    pub fn option<T>(
        &mut self,
        value: &mut Option<T>,
        blank: fn() -> T,
        each: impl Fn(&mut Self, &mut T) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut there = value.is_some();
        self.flag(&mut there)?;
        if !there {
            *value = None;
            return Ok(());
        }
        each(self, value.get_or_insert_with(blank))
    }

    /// A list of at most `most`; `blank` is replaced for each of them.
    pub fn list<T>(
        &mut self,
        values: &mut Vec<T>,
        most: usize,
        blank: fn() -> T,
        each: impl Fn(&mut Self, &mut T) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let length = self.length(values.len(), most)?;
        if !self.reads() {
            return values.iter_mut().try_for_each(|value| each(self, value));
        }
        values.clear();
        for _ in 0..length {
            let mut value = blank();
            each(self, &mut value)?;
            values.push(value);
        }
        Ok(())
    }

    fn length(&mut self, own: usize, most: usize) -> Result<usize, Malformed> {
        let mut length = u32::try_from(own).unwrap_or(u32::MAX);
        self.small(&mut length)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > most { Err(Malformed::Long { length, most }) } else { Ok(length) }
    }

    /// Bytes whose number is known.
    pub fn exactly(&mut self, value: &mut [u8]) -> Result<(), Malformed> {
        match self {
            Self::Measure(sum) => *sum += value.len(),
            Self::Write(out) => out.extend_from_slice(value),
            Self::Read(rest) => {
                let split = rest.split_at_checked(value.len());
                let (taken, left) = split.ok_or(Malformed::Short)?;
                value.copy_from_slice(taken);
                *rest = left;
            }
        }
        Ok(())
    }
}
