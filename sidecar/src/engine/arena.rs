//! Things by number, with numbers that are never mistaken for those of a thing that is gone.

/// The number of a thing in an [`Arena`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Id {
    index: u32,
    /// Odd while the thing is there; a place is used again with the next odd number.
    generation: u32,
}

/// A bag of things that are found by number in constant time.
#[derive(Debug)]
pub(super) struct Arena<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    thing: Option<T>,
}

impl<T> Arena<T> {
    pub(super) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    /// How many things there are.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a thing in. Memory is taken for as many as were ever there at once.
    ///
    /// # Panics
    /// Beyond 2^32 things, which the engine's limits keep far away.
    pub(super) fn insert(&mut self, thing: T) -> Id {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.generation = place.generation.wrapping_add(2);
            place.thing = Some(thing);
            return Id {
                index,
                generation: place.generation,
            };
        }
        let index = u32::try_from(self.places.len()).expect("the engine's limits are below 2^32");
        self.places.push(Place {
            generation: 1,
            thing: Some(thing),
        });
        Id {
            index,
            generation: 1,
        }
    }

    pub(super) fn get(&self, id: Id) -> Option<&T> {
        let place = self.places.get(id.index as usize)?;
        (place.generation == id.generation)
            .then_some(place.thing.as_ref())
            .flatten()
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let place = self.places.get_mut(id.index as usize)?;
        (place.generation == id.generation)
            .then_some(place.thing.as_mut())
            .flatten()
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        let place = self.places.get_mut(id.index as usize)?;
        if place.generation != id.generation {
            return None;
        }
        let thing = place.thing.take()?;
        self.free.push(id.index);
        Some(thing)
    }

    /// The numbers of all things.
    pub(super) fn ids(&self) -> Vec<Id> {
        let there = |(index, place): (usize, &Place<T>)| {
            let index = u32::try_from(index).ok()?;
            place.thing.as_ref().map(|_| Id {
                index,
                generation: place.generation,
            })
        };
        self.places.iter().enumerate().filter_map(there).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_under_another_number() {
        let mut arena = Arena::new();
        let first = arena.insert('a');
        let second = arena.insert('b');
        assert_eq!(arena.remove(first), Some('a'));
        assert_eq!(arena.remove(first), None);
        let third = arena.insert('c');
        assert_eq!((third.index, arena.len()), (first.index, 2));
        assert_eq!(arena.get(first), None, "a stale number finds nothing");
        assert_eq!(arena.get_mut(first), None);
        assert_eq!(arena.get(third), Some(&'c'));
        assert_eq!(arena.ids(), vec![third, second]);
        arena.remove(second);
        arena.remove(third);
        assert!(arena.is_empty());
    }
}
