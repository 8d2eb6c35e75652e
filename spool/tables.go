package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2"
)

// maxTable bounds what is read of a table at once. Those of this profile have a few megabytes.
const maxTable = 64 << 20

// checkTables reads every table of the manifest once before Badger does: Badger opens them in
// goroutines of its own, where a panic over a torn footer would end the process.
// Other tables are left-overs of a kill, and Badger deletes them.
func checkTables(dir string, key []byte) error {
	tables, err := listTables(dir)
	if err != nil {
		return err
	}
	keyOf, err := dataKeys(dir, key)
	if err != nil {
		return err
	}
	indices, err := ristretto.NewCache(&ristretto.Config[uint64, *fb.TableIndex]{NumCounters: 64, MaxCost: maxTable, BufferItems: 64})
	if err != nil {
		return err
	}
	defer indices.Close()
	for id, known := range tables {
		path := table.NewFilename(id, dir)
		opt := &table.Options{IndexCache: indices}
		if opt.DataKey, err = keyOf(known.KeyID); err != nil {
			err = explain(err)
		} else {
			err = checkTable(path, id, opt)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

func listTables(dir string) (map[uint64]badger.TableManifest, error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, err
	}
	m, _, err := badger.ReplayManifestFile(f, 0, badgerOptions(dir, sizesOf(ProfileEdge), nil, nil))
	if err != nil {
		err = fmt.Errorf("%s: %w", manifestName, explain(err))
	}
	return m.Tables, errors.Join(err, f.Close())
}

func checkTable(path string, id uint64, opt *table.Options) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: the file is missing", ErrDamaged)
	}
	if err != nil {
		return err
	}
	if info.Size() > maxTable {
		return fmt.Errorf("%w: a file of %d bytes", ErrDamaged, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: the footer makes no sense", ErrDamaged)
		}
	}()
	t, err := table.OpenInMemoryTable(data, id, opt)
	if err == nil {
		err = t.VerifyChecksum()
	}
	if err != nil {
		return explain(err)
	}
	return nil
}
