package zmtp

import (
	"errors"
	"slices"
)

// Bounds of what one peer may subscribe to.
const (
	maxPrefixes    = 1 << 16
	maxPrefixBytes = 4 << 20
)

var errSubscriptions = errors.New("zmtp: too many subscriptions")

// prefixes is a multiset of subscriptions: what was subscribed to twice must be cancelled twice. The zero value is empty.
type prefixes struct {
	count map[string]int
	sizes []sized // the lengths that there are, ascending
	bytes int
}

// sized is how many different prefixes have that length.
type sized struct{ length, prefixes int }

// add reports whether the prefix is new.
func (p *prefixes) add(prefix string) (bool, error) {
	if p.count[prefix] > 0 {
		p.count[prefix]++
		return false, nil
	}
	if len(p.count) >= maxPrefixes || p.bytes+len(prefix) > maxPrefixBytes {
		return false, errSubscriptions
	}
	if p.count == nil {
		p.count = make(map[string]int)
	}
	p.count[prefix] = 1
	p.bytes += len(prefix)
	i, found := p.find(len(prefix))
	if !found {
		p.sizes = slices.Insert(p.sizes, i, sized{length: len(prefix)})
	}
	p.sizes[i].prefixes++
	return true, nil
}

// remove reports whether that was the last of it. One that is not there is ignored.
func (p *prefixes) remove(prefix string) bool {
	switch p.count[prefix] {
	case 0:
		return false
	case 1:
	default:
		p.count[prefix]--
		return false
	}
	delete(p.count, prefix)
	p.bytes -= len(prefix)
	i, _ := p.find(len(prefix))
	if p.sizes[i].prefixes--; p.sizes[i].prefixes == 0 {
		p.sizes = slices.Delete(p.sizes, i, i+1)
	}
	return true
}

func (p *prefixes) find(length int) (int, bool) {
	return slices.BinarySearchFunc(p.sizes, length, func(s sized, n int) int { return s.length - n })
}

// match reports whether topic begins with one of them.
func (p *prefixes) match(topic []byte) bool {
	for _, s := range p.sizes {
		if s.length > len(topic) {
			return false
		}
		if p.count[string(topic[:s.length])] > 0 {
			return true
		}
	}
	return false
}

// all lists them, each once, in order.
func (p *prefixes) all() []string {
	list := make([]string, 0, len(p.count))
	for prefix := range p.count {
		list = append(list, prefix)
	}
	slices.Sort(list)
	return list
}
