package spool

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// A note is a small named value of the caller's:
//
//	key    'w' | name
//	fields the value
const (
	notePrefix = 'w'

	// MaxNoteKey and MaxNoteSize bound a note.
	MaxNoteKey  = 4096
	MaxNoteSize = 4 << 20

	// noteCost and twice its size is what a note counts for in a group: a group that is full
	// of notes is then well within what Badger takes in one transaction.
	noteCost = 512
)

// note is what memory knows of a note. Guarded by Store.change.
type note struct {
	value []byte // sealed, until it is on disk; nil then, or if deleted
	size  int64  // of the value
	group Group  // that wrote it last in this life
	gone  bool
}

func noteKey(key string) []byte { return append([]byte{notePrefix}, key...) }

// Put writes the note key: 1 to MaxNoteKey bytes, any bytes. value has at most MaxNoteSize bytes and
// is copied; nil deletes the note, an empty one does not. Beyond these bounds it panics. Quota and
// reserve do not hold it back. Keys that begin with a NUL byte are the store's own: it panics too.
func (c *Change) Put(key string, value []byte) {
	if len(key) == 0 || len(key) > MaxNoteKey || key[0] == 0 || len(value) > MaxNoteSize {
		panic(fmt.Sprintf("spool: a note of %d bytes under the key %.32q of %d", len(value), key, len(key)))
	}
	c.put(key, value)
}

func (c *Change) put(key string, value []byte) {
	if c.g == nil {
		return
	}
	full := noteKey(key)
	var sealed []byte
	if value != nil {
		sealed = finish(full, append(begin(len(value)), value...))
	}
	n := c.s.notes[key]
	if n == nil {
		if value == nil {
			return
		}
		n = new(note)
		c.s.notes[key] = n
	}
	n.size = int64(len(sealed))
	n.value, n.group, n.gone = sealed, c.g.number, value == nil
	if _, again := c.g.small[string(full)]; !again {
		c.g.size += noteCost + 2*len(sealed)
	}
	c.set(full, sealed)
}

// noteLanded forgets the value of a note that is on disk now. s.change must be held.
func (s *Store) noteLanded(key string, g Group) {
	if key[0] != notePrefix {
		return
	}
	n := s.notes[key[1:]]
	if n == nil || n.group != g {
		return
	}
	n.value = nil
	if n.gone {
		delete(s.notes, key[1:])
	}
}

// Note returns a copy of the note, as of the last committed group or newer; nil if there is none.
// It may read from the disk. A note that cannot be read any more makes the store read-only, and is nil.
func (s *Store) Note(key string) []byte {
	full := noteKey(key)
	s.change.Lock()
	n := s.notes[key]
	if n == nil || n.gone || s.ended {
		s.change.Unlock()
		return nil
	}
	sealed := n.value
	s.change.Unlock()
	if sealed != nil {
		return slices.Clone(sealed[1 : len(sealed)-sumSize])
	}
	value, err := s.readNote(full)
	if errors.Is(err, badger.ErrKeyNotFound) || errors.Is(err, ErrClosed) {
		return nil // deleted meanwhile, or all is over
	}
	if err != nil {
		s.fail(fmt.Errorf("%w: note %q: %w", ErrDamaged, clip([]byte(key)), err))
		return nil
	}
	return value
}

func (s *Store) readNote(full []byte) (value []byte, err error) {
	err = s.view(func(txn *badger.Txn) error {
		item, err := txn.Get(full)
		if err != nil {
			return err
		}
		return item.Value(func(sealed []byte) error {
			f, err := unsealAny(full, sealed)
			value = append([]byte{}, f...)
			return err
		})
	})
	return value, err
}

// Notes ranges over the notes whose key has the prefix, in ascending order of keys: those that are
// there when it begins, with the value each has when its turn comes. The store's own are left out.
func (s *Store) Notes(prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		s.change.Lock()
		var keys []string
		for key, n := range s.notes {
			if !n.gone && key[0] != 0 && strings.HasPrefix(key, prefix) {
				keys = append(keys, key)
			}
		}
		s.change.Unlock()
		slices.Sort(keys)
		for _, key := range keys {
			if value := s.Note(key); value != nil && !yield(key, value) {
				return
			}
		}
	}
}
