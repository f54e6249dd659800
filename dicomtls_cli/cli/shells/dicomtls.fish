# Completion of dicomtls in fish: made by `dicomtls completion fish`.

function __dicomtls_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l word (commandline --current-token --cut-at-cursor)
    set -l program (string replace --regex '^~' -- $HOME $words[1])
    for line in ($program completion fish --word="$word" -- $words[2..-1] 2>/dev/null)
        set -l parts (string split --max 1 \t -- $line)
        if test "$parts[1]" = :files
            set -l begun (string replace -- "$parts[2]" '' $word)
            for path in (complete --do-complete "'' $begun") # of a program that fish knows nothing of
                echo -- $parts[2]$path
            end
        else
            echo -- $line
        end
    end
end

complete --command dicomtls --no-files --arguments '(__dicomtls_complete)'
