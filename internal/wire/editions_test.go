package wire

import "testing"

func TestEachEditionOwnsTheSeqsUpToTheNextOne(t *testing.T) {
	several := Attach{Editions: []EditionSpan{{11, 3}, {12, 4}, {13, 100}}, Edition: 14, First: 200}
	for _, c := range []struct {
		a         Attach
		seq, want uint64
	}{
		{Attach{Edition: 7}, 0, 7},
		{Attach{Edition: 7}, 1 << 63, 7},
		{Attach{Edition: 7, First: 5}, 4, 0},
		{Attach{Edition: 7, First: 5}, 5, 7},
		{several, 0, 0}, {several, 2, 0}, {several, 3, 11}, {several, 4, 12}, {several, 99, 12}, {several, 100, 13},
		{several, 199, 13}, {several, 200, 14}, {several, 1<<64 - 1, 14},
	} {
		if got := c.a.EditionOf(c.seq); got != c.want {
			t.Errorf("%v, then %d from %d: edition of %d is %d, want %d", c.a.Editions, c.a.Edition, c.a.First, c.seq, got, c.want)
		}
	}
}
