package reference

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file is what both are.
type file interface {
	One() error
	Burst(ctx context.Context, more func(int) int) (int, error)
	Close() error
}

// both makes one of each at the path.
var both = map[string]func(path string, size int) (file, error){
	"WAL":   func(path string, size int) (file, error) { return Create(path, size) },
	"plain": func(path string, size int) (file, error) { return CreatePlain(path, size) },
}

// inSteps lets n messages be sent, at most so many before the next question.
func inSteps(n, step int) func(int) int {
	return func(sent int) int { return min(n-sent, step) }
}

func TestAFileHoldsEveryMessageWhole(t *testing.T) {
	for name, create := range both {
		for _, size := range []int{0, 100, 1000, 3 << 20} {
			for _, count := range []int{0, 1, 7, 5000} {
				if size > 1000 && count > 7 {
					continue
				}
				path := filepath.Join(t.TempDir(), "file")
				f, err := create(path, size)
				if err != nil {
					t.Fatal(err)
				}
				n, err := f.Burst(t.Context(), inSteps(count, 64))
				if err != nil || n != count {
					t.Fatalf("%s: %d bytes: burst of %d, want %d, %v", name, size, n, count, err)
				}
				for range 3 {
					if err := f.One(); err != nil {
						t.Fatal(err)
					}
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				w := WAL{body: make([]byte, size)}
				if want := int64((count + 3) * len(w.frame(nil))); info.Size() != want {
					t.Errorf("%s: %d messages of %d bytes: %d bytes, want %d", name, count+3, size, info.Size(), want)
				}
			}
		}
	}
}

func TestAFileThatIsClosedTakesNoMore(t *testing.T) {
	for name, create := range both {
		f, err := create(filepath.Join(t.TempDir(), "file"), 10)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Burst(t.Context(), inSteps(1, 1)); err == nil {
			t.Errorf("%s: it took a burst", name)
		}
		if err := f.One(); err == nil {
			t.Errorf("%s: it took one", name)
		}
	}
}

func TestABurstEndsWithItsContext(t *testing.T) {
	for name, create := range both {
		f, err := create(filepath.Join(t.TempDir(), "file"), 10)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err = f.Burst(ctx, func(sent int) int {
			if sent > 1000 {
				cancel()
			}
			return 64
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: ended with %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatCannotBeMadeIsAnError(t *testing.T) {
	for name, create := range both {
		for _, size := range []int{-1, MaxBody + 1} {
			if _, err := create(filepath.Join(t.TempDir(), "file"), size); err == nil {
				t.Errorf("%s: bodies of %d bytes", name, size)
			}
		}
		if _, err := create(filepath.Join(t.TempDir(), "none", "file"), 1); err == nil {
			t.Errorf("%s: made in a directory that is not there", name)
		}
	}
}
