// The verifier checks a pcigate ledger with code that is not ours: Go's golang.org/x/mod/sumdb
// (tlog and note), which checks the Go module checksum database. It shares nothing with
// pcigate-ledger but the public formats: C2SP signed-note, checkpoint and tlog-tiles.
//
//	verifier LEDGER-DIR VKEY-FILE
//
// It opens LEDGER-DIR/checkpoint with the key, hashes every entry again, compares it with its hash
// in the level-0 tiles, authenticates every tile against the signed root, and computes the root a
// second time from the entries alone.
//
// Exit 0 and "ok size=N root=BASE64": all of it fits. Exit 2 and "MISMATCH at entry N": the first
// entry that does not (details on standard error). Exit 1: it could not be checked.
//
// Build (Debian: golang-go, golang-golang-x-mod-dev), or `cargo xtask verifier`:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o target/verifier/verifier tests/verifier/main.go
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The height of C2SP tiles, and the hashes or entries of a full one.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run verifies and gives the exit code.
func run(args []string, out, diag io.Writer) int {
	if len(args) != 2 {
		fmt.Fprintln(diag, "usage: verifier LEDGER-DIR VKEY-FILE")
		return 1
	}
	tree, err := verify(args[0], args[1])
	var wrong *mismatch
	switch {
	case errors.As(err, &wrong):
		fmt.Fprintf(out, "MISMATCH at entry %d\n", wrong.entry)
		fmt.Fprintln(diag, "verifier:", wrong.why)
		return 2
	case err != nil:
		fmt.Fprintln(diag, "verifier:", err)
		return 1
	}
	fmt.Fprintf(out, "ok size=%d root=%v\n", tree.N, tree.Hash)
	return 0
}

// A mismatch is evidence that the log is not the one that was signed.
type mismatch struct {
	entry int64
	why   string
}

func (m *mismatch) Error() string { return m.why }

func verify(dir, keyFile string) (tlog.Tree, error) {
	tree, err := openCheckpoint(filepath.Join(dir, "checkpoint"), keyFile)
	if err != nil {
		return tree, err
	}
	if tree.N == 0 {
		// RFC 6962: the root of the empty tree; tlog.TreeHash gives zeros instead.
		if tree.Hash != tlog.Hash(sha256.Sum256(nil)) {
			return tree, &mismatch{0, "the signed root of the empty log is not the hash of nothing"}
		}
		return tree, nil
	}
	return tree, verifyEntries(dir, tree)
}

// openCheckpoint gives the tree that the key signed.
func openCheckpoint(path, keyFile string) (tlog.Tree, error) {
	var tree tlog.Tree
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return tree, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		return tree, fmt.Errorf("%s: %w", keyFile, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return tree, err
	}
	signed, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return tree, fmt.Errorf("%s: %w", path, err)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) < 4 {
		return tree, fmt.Errorf("%s: a checkpoint has three lines: origin, size, root", path)
	}
	if lines[0] != verifier.Name() {
		return tree, fmt.Errorf("%s: origin %q is not the key's name %q", path, lines[0], verifier.Name())
	}
	tree.N, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || tree.N < 0 || strconv.FormatInt(tree.N, 10) != lines[1] {
		return tree, fmt.Errorf("%s: size %q is not a plain decimal number", path, lines[1])
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	if err != nil {
		return tree, fmt.Errorf("%s: root %q is not the base64 of 32 bytes", path, lines[2])
	}
	return tree, nil
}

// verifyEntries hashes all entries again, and checks them against the tiles, the tiles against the
// signed root, and the root they make against the signed one.
func verifyEntries(dir string, tree tlog.Tree) error {
	var own ownHashes
	for first := int64(0); first < tree.N; first += tileWidth {
		if err := verifyBundle(dir, leafTile(first, tree.N), &own); err != nil {
			return err
		}
	}
	// An entry that was changed together with its tile fits it, but no proof to the signed root.
	// A proof for one entry of a tile is made from all its other hashes, so it is one for the tile.
	// (tlog.TileHashReader alone is not enough: that of x/mod 0.7.0 leaves some tiles unchecked.)
	proven := tlog.TileHashReader(tree, tileFiles{dir})
	for first := int64(0); first < tree.N; first += tileWidth {
		proof, err := tlog.ProveRecord(tree.N, first, proven)
		if isMissing(err) {
			return err
		}
		if err == nil {
			hash := own[tlog.StoredHashIndex(0, first)]
			err = tlog.CheckRecord(proof, tree.N, tree.Hash, first, hash)
		}
		if err != nil {
			path := c2spPath(leafTile(first, tree.N), false)
			return &mismatch{first, fmt.Sprintf("%s, or a tile above it, does not fit the signed root: %v", path, err)}
		}
	}
	root, err := tlog.TreeHash(tree.N, own)
	if err != nil {
		return err
	}
	if root != tree.Hash {
		return &mismatch{0, fmt.Sprintf("the entries make the root %v, signed is %v", root, tree.Hash)}
	}
	return nil
}

// leafTile is the level-0 tile that begins with this entry.
func leafTile(first, size int64) tlog.Tile {
	width := size - first
	if width > tileWidth {
		width = tileWidth
	}
	return tlog.Tile{H: tileHeight, L: 0, N: first / tileWidth, W: int(width)}
}

// verifyBundle hashes the entries of one tile, compares each with its hash in the tile, and adds it
// to our own.
func verifyBundle(dir string, leaf tlog.Tile, own *ownHashes) error {
	said, err := tileFiles{dir}.read(leaf)
	if err != nil {
		return err
	}
	entries, err := readBundle(dir, leaf)
	if err != nil {
		return err
	}
	for i := 0; i < leaf.W; i++ {
		index := leaf.N*tileWidth + int64(i)
		if i >= len(entries) {
			return &mismatch{index, fmt.Sprintf("%s ends before it", c2spPath(leaf, true))}
		}
		hash := tlog.RecordHash(entries[i])
		if string(said[i*tlog.HashSize:(i+1)*tlog.HashSize]) != string(hash[:]) {
			return &mismatch{index, fmt.Sprintf("its hash is not the one in %s", c2spPath(leaf, false))}
		}
		if err := own.add(index, hash); err != nil {
			return err
		}
	}
	if len(entries) > leaf.W {
		after := leaf.N*tileWidth + int64(leaf.W)
		return &mismatch{after, fmt.Sprintf("%s holds more than was signed", c2spPath(leaf, true))}
	}
	return nil
}

// tileFiles reads C2SP tiles from a folder, as tlog wants them.
type tileFiles struct{ dir string }

func (t tileFiles) Height() int { return tileHeight }

func (t tileFiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tileFiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		var err error
		if data[i], err = t.read(tile); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// read gives exactly the hashes of the tile. A log may have dropped a partial tile once the full
// one is there, which begins with the same hashes.
func (t tileFiles) read(tile tlog.Tile) ([]byte, error) {
	data, _, err := readTile(t.dir, tile, false)
	if err != nil {
		return nil, err
	}
	if len(data)%tlog.HashSize != 0 || len(data) < tile.W*tlog.HashSize {
		first := tile.N << uint(tileHeight*(tile.L+1))
		return nil, &mismatch{first, fmt.Sprintf("%s is cut short: %d bytes", c2spPath(tile, false), len(data))}
	}
	return data[:tile.W*tlog.HashSize], nil
}

// readBundle gives the entries of a level-0 tile; fewer when the file ends early.
func readBundle(dir string, leaf tlog.Tile) ([][]byte, error) {
	data, full, err := readTile(dir, leaf, true)
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(data) >= 2 {
		length := 2 + int(binary.BigEndian.Uint16(data))
		if length > len(data) {
			break
		}
		entries = append(entries, data[2:length])
		data = data[length:]
	}
	if full && len(entries) > leaf.W {
		entries = entries[:leaf.W]
	} else if len(data) > 0 {
		// Bytes that are no entry: one more, so that it is seen.
		entries = append(entries, data)
	}
	return entries, nil
}

// readTile reads the file of a tile or of its entries, and says whether it took the full tile in
// place of the partial one asked for.
func readTile(dir string, tile tlog.Tile, entries bool) ([]byte, bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, c2spPath(tile, entries)))
	if err == nil || tile.W == tileWidth || !isMissing(err) {
		return data, false, err
	}
	full := tile
	full.W = tileWidth
	wider, fullErr := os.ReadFile(filepath.Join(dir, c2spPath(full, entries)))
	if fullErr != nil {
		return nil, false, err
	}
	return wider, true, nil
}

// c2spPath is the path of a tile or of its entries: tlog's own, "tile/8/0/x001/234.p/5", without
// the height, and with "entries" for the level of entries.
func c2spPath(tile tlog.Tile, entries bool) string {
	parts := strings.SplitN(tile.Path(), "/", 4)
	if entries {
		parts[2] = "entries"
	}
	return strings.Join([]string{parts[0], parts[2], parts[3]}, "/")
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// ownHashes are the hashes of the tree, computed here from the entries, in tlog's storage order.
type ownHashes []tlog.Hash

func (o *ownHashes) add(index int64, record tlog.Hash) error {
	hashes, err := tlog.StoredHashesForRecordHash(index, record, *o)
	*o = append(*o, hashes...)
	return err
}

func (o ownHashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(o)) {
			return nil, fmt.Errorf("hash %d is asked for before it is known", index)
		}
		hashes[i] = o[index]
	}
	return hashes, nil
}
