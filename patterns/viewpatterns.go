package patterns

import (
	"slices"

	"peermesh/internal/topic"
)

// version is what a durable subscription wants from a seq on.
type version struct {
	first    uint64
	patterns []topic.Pattern
}

// maxVersions and maxVersionBytes bound the changes of patterns that are remembered because
// messages from before them are still owed. Beyond that the two oldest become one that
// wants what either did: rather too much than too little.
const (
	maxVersions     = 64
	maxVersionBytes = 1 << 20
)

// versions are ascending by first. There are none before the subscriber has told what it
// wants.
type versions []version

// at is the version in force at seq; nil before the first.
func (vs versions) at(seq uint64) *version {
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].first <= seq {
			return &vs[i]
		}
	}
	return nil
}

// now is the newest version.
func (vs versions) now() *version {
	if len(vs) == 0 {
		return nil
	}
	return &vs[len(vs)-1]
}

// match reports whether topicName is wanted.
func (v *version) match(topicName string) bool {
	return v != nil && slices.ContainsFunc(v.patterns, func(p topic.Pattern) bool { return p.Match(topicName) })
}

// change puts a version in force from first on.
func (vs versions) change(first uint64, patterns []topic.Pattern) versions {
	if now := vs.now(); now != nil && now.first == first {
		now.patterns = patterns
		return vs
	}
	vs = append(vs, version{first, patterns})
	for len(vs) > maxVersions || len(vs) > 2 && vs.size() > maxVersionBytes { // the newest is never touched
		vs[1] = version{vs[0].first, union(vs[0].patterns, vs[1].patterns)}
		vs = vs[1:]
	}
	return vs
}

// size is the bytes of all patterns.
func (vs versions) size() (n int) {
	for _, v := range vs {
		n += sizeOf(v.patterns)
	}
	return n
}

func sizeOf(patterns []topic.Pattern) (n int) {
	for _, p := range patterns {
		n += len(p.String())
	}
	return n
}

// maxUnion bounds the bytes of the patterns of versions that became one.
const maxUnion = maxVersionBytes / 4

func union(a, b []topic.Pattern) []topic.Pattern {
	out := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	if sizeOf(out) > maxUnion {
		everything, _ := topic.ParseAll(nil) // no pattern at all is one that cannot fail
		return everything
	}
	return out
}

// trim forgets the versions that are over: all messages before lowest are settled.
func (vs versions) trim(lowest uint64) versions {
	for len(vs) > 1 && vs[1].first <= lowest {
		vs = vs[1:]
	}
	return vs
}
