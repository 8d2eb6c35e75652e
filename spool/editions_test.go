package spool

import "testing"

// A queue that piles up messages of many lives.
func TestEditionsOfAQueueAreBounded(t *testing.T) {
	for _, lives := range []int{0, 1, MaxEditions - 1, MaxEditions} {
		q := &Queue{s: &Store{edition: 7}, rec: queueRecord{next: uint64(lives) + 1}}
		for i := range lives {
			q.blocks = append(q.blocks, &block{q: q, base: uint64(i + 1), last: uint64(i + 1), through: uint64(i + 1), edition: uint64(1000 + i)})
		}
		st := q.state()
		if len(st.Editions) >= MaxEditions {
			t.Errorf("%d lives: %d editions", lives, len(st.Editions))
		}
		want, first := uint64(7), uint64(lives)+1
		if lives >= MaxEditions {
			want, first = uint64(1000+lives-1), uint64(lives)
		}
		if st.Edition != want || st.First != first {
			t.Errorf("%d lives: edition %d from %d on, want %d from %d on", lives, st.Edition, st.First, want, first)
		}
	}
}

func TestAQueueOpenedAgainInOneLifeGoesOnInItsEdition(t *testing.T) {
	q := &Queue{s: &Store{edition: 7}, rec: queueRecord{next: 6}}
	for i, edition := range []uint64{5, 7} {
		q.blocks = append(q.blocks, &block{q: q, base: uint64(2*i + 1), last: uint64(2*i + 2), through: uint64(2*i + 2), edition: edition})
	}
	st := q.state()
	if st.Edition != 7 || st.First != 3 || len(st.Editions) != 1 || st.Editions[0] != (EditionSpan{5, 1}) {
		t.Errorf("edition %d from %d on, earlier ones %v", st.Edition, st.First, st.Editions)
	}
}
