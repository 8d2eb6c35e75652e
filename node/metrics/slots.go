package metrics

// slots says which of many names have a label of their own: at most so many, those that came
// first. A name that was folded stays so until it goes, so that no count is shown twice.
type slots struct {
	most  int
	named map[string]bool // of those present: false is folded
	used  int
}

func newSlots(most int) slots { return slots{most: most, named: map[string]bool{}} }

// settle says who is present now, in the order in which slots are given.
func (s *slots) settle(present []string) {
	is := make(map[string]bool, len(present))
	for _, name := range present {
		is[name] = true
	}
	for name, named := range s.named {
		if is[name] {
			continue
		}
		if named {
			s.used--
		}
		delete(s.named, name)
	}
	for _, name := range present {
		if _, known := s.named[name]; known {
			continue
		}
		s.named[name] = s.used < s.most
		if s.named[name] {
			s.used++
		}
	}
}

// has reports whether a present name has a label of its own.
func (s *slots) has(name string) bool { return s.named[name] }

func (s *slots) folded() int { return len(s.named) - s.used }
