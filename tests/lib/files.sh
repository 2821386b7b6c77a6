# shellcheck shell=sh
# SPDX-License-Identifier: MIT
#
# files.sh - which files the lint checks read.

# source_files: every file of the project as seen from the current directory,
# the top of it: what git knows or would add, else what lies there.
source_files()
{
	if command -v git >/dev/null && git -c safe.directory='*' rev-parse >/dev/null 2>&1; then
		git -c safe.directory='*' ls-files --cached --others --exclude-standard
	else
		find . -path './build*' -prune -o -type f \
			! -name '*.pyc' ! -path './.git/*' -print | sed 's|^\./||'
	fi | while read -r file; do
		[ ! -f "$file" ] || echo "$file"
	done
}

# scripts PATTERN: the source files whose first line matches.
scripts()
{
	for file in $(source_files); do
		if head -n 1 "$file" | grep -q "$1"; then
			echo "$file"
		fi
	done
}
