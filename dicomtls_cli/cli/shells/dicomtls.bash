# Completion of dicomtls in bash 4.4 or newer: made by `dicomtls completion bash`.

_dicomtls() {
    local rest=${COMP_LINE:0:COMP_POINT} words=() piece word line value i
    # Bash splits at `=`, `:` and `@` too: what has no blank before it belongs to the word before.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        if ((i == COMP_CWORD)) && [[ ! $rest =~ ^[[:space:]]*"$piece" ]]; then
            piece=${rest#"${rest%%[![:space:]]*}"} # the cursor stands inside of it
        fi
        if ((i)) && [[ $rest == "$piece"* && -n $piece ]]; then
            words[${#words[@]} - 1]+=$piece
        else
            words+=("$piece")
            rest=${rest#"${rest%%[![:space:]]*}"}
        fi
        rest=${rest#"$piece"}
    done
    word=${words[-1]}
    COMPREPLY=()
    while IFS= read -r line; do
        value=${line%%$'\t'*}
        if [[ $value == :files ]]; then
            compopt -o default # readline completes names of files itself
        else
            COMPREPLY+=("${value#"${word%"$2"}"}")
        fi
    done < <("${1/#\~/$HOME}" completion bash "--word=$word" -- "${words[@]:1:${#words[@]}-2}" 2>/dev/null)
}

complete -o nosort -F _dicomtls dicomtls
