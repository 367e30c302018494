//! Doubly linked lists over one set of items: an item is in one list at most. All lists share two
//! arrays, so that moving an item from one to another touches a few numbers and allocates nothing.

use super::Item;

/// The links of all items, and a sentinel a list.
#[derive(Clone, Debug)]
pub struct Lists {
    /// `[items + lists]` neighbours towards the front and towards the back.
    links: Vec<[u32; 2]>,
    items: u32,
    lengths: Vec<u32>,
}

const FRONT: usize = 0;
const BACK: usize = 1;

impl Lists {
    /// `lists` empty lists over numbers below `items`.
    ///
    /// # Panics
    /// When there are 2^32 items or more.
    #[must_use]
    pub fn new(items: usize, lists: usize) -> Self {
        let items_u32 = u32::try_from(items + lists).expect("fewer than 2^32 items")
            - u32::try_from(lists).expect("few lists");
        let mut links = vec![[u32::MAX; 2]; items + lists];
        for (sentinel, link) in (items_u32..).zip(&mut links[items..]) {
            *link = [sentinel; 2];
        }
        Self { links, items: items_u32, lengths: vec![0; lists] }
    }

    /// Adds `item`, which is in no list, at the front of `list`.
    #[inline]
    pub fn push_front(&mut self, list: usize, item: Item) {
        let sentinel = self.items + list as u32;
        let first = self.links[sentinel as usize][BACK];
        self.links[item as usize] = [sentinel, first];
        self.links[sentinel as usize][BACK] = item;
        self.links[first as usize][FRONT] = item;
        self.lengths[list] += 1;
    }

    /// Takes `item` out of `list`, where it is.
    #[inline]
    pub fn remove(&mut self, list: usize, item: Item) {
        let [front, back] = self.links[item as usize];
        self.links[front as usize][BACK] = back;
        self.links[back as usize][FRONT] = front;
        self.lengths[list] -= 1;
    }

    /// Moves `item` to the front of `list`, where it is.
    #[inline]
    pub fn refresh(&mut self, list: usize, item: Item) {
        self.remove(list, item);
        self.push_front(list, item);
    }

    /// The last item of `list`.
    #[inline]
    #[must_use]
    pub fn back(&self, list: usize) -> Option<Item> {
        self.towards_front(list, self.items + list as u32)
    }

    /// The neighbour of `item` of `list` towards the front.
    #[inline]
    #[must_use]
    pub fn towards_front(&self, list: usize, item: Item) -> Option<Item> {
        debug_assert!(item < self.items || item == self.items + list as u32, "item {item}");
        let next = self.links[item as usize][FRONT];
        (next < self.items).then_some(next)
    }

    /// The items of `list`, last first.
    pub fn from_back(&self, list: usize) -> impl Iterator<Item = Item> + '_ {
        std::iter::successors(self.back(list), move |&item| self.towards_front(list, item))
    }

    /// Items in `list`.
    #[inline]
    #[must_use]
    pub fn len(&self, list: usize) -> usize {
        self.lengths[list] as usize
    }
}
