package insight

// nearest is the name that want was perhaps meant to be: one letter more, less, other, or two changed places; in names
// of eight bytes and more two of these. Empty: none is near.
func nearest(want string, names []string) (best string) {
	most := 1
	if len(want) >= 8 {
		most = 2
	}
	if len(want) < 3 {
		return "" // every other short name is near
	}
	for _, n := range names {
		if n == want {
			continue
		}
		if d := distance(want, n, most); d <= most {
			best, most = n, d-1
		}
	}
	return best
}

// distance is the number of letters to be inserted, deleted, replaced or swapped with the next to turn a into b
// (optimal string alignment); anything above most may be told as most + 1.
func distance(a, b string, most int) int {
	x, y := []rune(a), []rune(b)
	if len(x)-len(y) > most || len(y)-len(x) > most {
		return most + 1
	}
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(y)]
}
