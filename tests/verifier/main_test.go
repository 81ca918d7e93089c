// Tests of the verifier against logs written here, also by Go's own tlog and note.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "ledger.example/test"

// A testLog is a log on disk.
type testLog struct {
	dir, key string
	root     tlog.Hash
}

func newLog(t *testing.T, size int64) testLog {
	t.Helper()
	dir := t.TempDir()
	log := testLog{dir: filepath.Join(dir, "ledger"), key: filepath.Join(dir, "ledger.vkey")}
	var own ownHashes
	bundles := map[int64][]byte{}
	for i := int64(0); i < size; i++ {
		entry := []byte(fmt.Sprintf("record %d", i))
		if err := own.add(i, tlog.RecordHash(entry)); err != nil {
			t.Fatal(err)
		}
		length := make([]byte, 2)
		binary.BigEndian.PutUint16(length, uint16(len(entry)))
		bundles[i/tileWidth] = append(bundles[i/tileWidth], append(length, entry...)...)
	}
	for _, tile := range tlog.NewTiles(tileHeight, 0, size) {
		if tile.W < tileWidth && tile.N<<tileHeight+int64(tile.W) != size>>uint(tileHeight*tile.L) {
			continue // only the widest partial tile of each level
		}
		data, err := tlog.ReadTileData(tile, own)
		if err != nil {
			t.Fatal(err)
		}
		write(t, log.dir, c2spPath(tile, false), data)
		if tile.L == 0 {
			write(t, log.dir, c2spPath(tile, true), bundles[tile.N])
		}
	}
	log.root = tlog.Hash(sha256.Sum256(nil))
	if size > 0 {
		var err error
		if log.root, err = tlog.TreeHash(size, own); err != nil {
			t.Fatal(err)
		}
	}
	log.sign(t, fmt.Sprintf("%s\n%d\n%v\n", origin, size, log.root))
	return log
}

func (l testLog) sign(t *testing.T, text string) {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		t.Fatal(err)
	}
	write(t, l.dir, "checkpoint", signed)
	write(t, "", l.key, []byte(public+"\n"))
}

func write(t *testing.T, dir, path string, data []byte) {
	t.Helper()
	path = filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// change rewrites one file of the log.
func (l testLog) change(t *testing.T, path string, edit func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(l.dir, path))
	if err != nil {
		t.Fatal(err)
	}
	write(t, l.dir, path, edit(data))
}

func (l testLog) expect(t *testing.T, code int, said string) {
	t.Helper()
	var out, diag bytes.Buffer
	got := run([]string{l.dir, l.key}, &out, &diag)
	if got != code || out.String() != said {
		t.Errorf("exit %d, %q; want exit %d, %q (%s)", got, out.String(), code, said, diag.String())
	}
}

func replace(from, to string) func([]byte) []byte {
	return func(data []byte) []byte { return bytes.Replace(data, []byte(from), []byte(to), 1) }
}

func flip(at int) func([]byte) []byte {
	return func(data []byte) []byte { data[at] ^= 1; return data }
}

func TestLogsOfManySizesVerify(t *testing.T) {
	for _, size := range []int64{0, 1, 2, 255, 256, 257, 600, 70000} {
		log := newLog(t, size)
		log.expect(t, 0, fmt.Sprintf("ok size=%d root=%v\n", size, log.root))
	}
}

func TestAChangedEntryIsNamed(t *testing.T) {
	log := newLog(t, 600)
	log.change(t, "tile/entries/001", replace("record 300", "record 3OO"))
	log.expect(t, 2, "MISMATCH at entry 300\n")
}

func TestAnEntryOfAPartialBundleIsNamed(t *testing.T) {
	log := newLog(t, 600)
	log.change(t, "tile/entries/002.p/88", replace("record 599", "record 598"))
	log.expect(t, 2, "MISMATCH at entry 599\n")
}

func TestACutOrLengthenedBundleIsFound(t *testing.T) {
	log := newLog(t, 600)
	log.change(t, "tile/entries/002.p/88", func(data []byte) []byte { return data[:len(data)-1] })
	log.expect(t, 2, "MISMATCH at entry 599\n")
	log = newLog(t, 600)
	log.change(t, "tile/entries/002.p/88", func(data []byte) []byte { return append(data, 0, 1, 'x') })
	log.expect(t, 2, "MISMATCH at entry 600\n")
}

func TestAnEntryChangedTogetherWithItsTileIsFound(t *testing.T) {
	log := newLog(t, 600)
	log.change(t, "tile/entries/001", replace("record 300", "record 3OO"))
	log.change(t, "tile/0/001", func(data []byte) []byte {
		hash := tlog.RecordHash([]byte("record 3OO"))
		copy(data[(300-256)*tlog.HashSize:], hash[:])
		return data
	})
	// Only the tile as a whole can be told from the signed root: its first entry is named.
	log.expect(t, 2, "MISMATCH at entry 256\n")
}

func TestAChangedTileOfAnyLevelIsFound(t *testing.T) {
	log := newLog(t, 600)
	log.change(t, "tile/0/002.p/88", flip(5))
	log.expect(t, 2, "MISMATCH at entry 512\n")
	log = newLog(t, 600)
	log.change(t, "tile/1/000.p/2", flip(5))
	log.expect(t, 2, "MISMATCH at entry 0\n")
	log = newLog(t, 600)
	log.change(t, "tile/0/000", func(data []byte) []byte { return data[:100] })
	log.expect(t, 2, "MISMATCH at entry 0\n")
}

func TestAFullTileStandsInForAPartialOne(t *testing.T) {
	long, short := newLog(t, 1000), newLog(t, 600)
	for _, path := range []string{"tile/0/002", "tile/entries/002"} {
		data, err := os.ReadFile(filepath.Join(long.dir, path))
		if err != nil {
			t.Fatal(err)
		}
		write(t, short.dir, path, data)
		if err := os.Remove(filepath.Join(short.dir, path+".p/88")); err != nil {
			t.Fatal(err)
		}
	}
	short.expect(t, 0, fmt.Sprintf("ok size=600 root=%v\n", short.root))
}

func TestWhatCannotBeCheckedIsNoMismatch(t *testing.T) {
	log := newLog(t, 10)
	log.change(t, "checkpoint", replace("\n10\n", "\n11\n"))
	log.expect(t, 1, "")
	log = newLog(t, 10)
	log.sign(t, fmt.Sprintf("other.example\n10\n%v\n", log.root))
	log.expect(t, 1, "")
	log = newLog(t, 10)
	if err := os.Remove(filepath.Join(log.dir, "tile/entries/000.p/10")); err != nil {
		t.Fatal(err)
	}
	log.expect(t, 1, "")
	log.key = filepath.Join(log.dir, "none")
	log.expect(t, 1, "")
}

func TestASignedRootThatNoEntriesMakeIsFound(t *testing.T) {
	log := newLog(t, 10)
	log.sign(t, fmt.Sprintf("%s\n10\n%v\n", origin, tlog.Hash{1}))
	log.expect(t, 2, "MISMATCH at entry 0\n")
	log = newLog(t, 0)
	log.sign(t, fmt.Sprintf("%s\n0\n%v\n", origin, tlog.Hash{}))
	log.expect(t, 2, "MISMATCH at entry 0\n")
}

func TestPathsAreThoseOfC2SP(t *testing.T) {
	tile := tlog.Tile{H: tileHeight, L: 1, N: 1234067, W: 8}
	if path := c2spPath(tile, false); path != "tile/1/x001/x234/067.p/8" {
		t.Error(path)
	}
	tile.L = 0
	if path := c2spPath(tile, true); !strings.HasPrefix(path, "tile/entries/x001/x234/067") {
		t.Error(path)
	}
}
